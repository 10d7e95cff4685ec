"""The ledger against Slurm's own accounts."""

from __future__ import annotations

import os
import subprocess
import time
from collections import defaultdict
from collections.abc import Collection, Iterable
from itertools import chain

from msm_hpc.campaign.views.ledger import Tried, ledger, tries_at
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store

SECONDS = 30.0
"""How far sacct may trail."""


def check_ledger(steps: Iterable[Step], store: Store) -> set[str]:
    """Hold all that sacct counts against the ledger, and return the ids of the jobs.

    Named, and small, is what a job takes before its script and after its last attempt; the rest agrees to 2%.
    """
    tries = [[each for each in of_step if each.record.allocation] for of_step in tries_at(map(store.of, steps))]
    counted = 3600 * ledger([of_step for of_step in tries if of_step], on_gpus=False).hours()
    starts: dict[tuple[str, str], list[Tried]] = defaultdict(list)
    for each in chain.from_iterable(tries):
        starts[each.record.job.id, each.record.job_start].append(each)
    jobs = {job for job, _ in starts}
    runs = _ended_runs(jobs, len(starts))
    held = named = 0.0
    for (job, _), together in starts.items():
        allocation = together[0].record.allocation
        assert allocation is not None
        began, ended = next(run for run in runs[job] if run[0] - 2 <= allocation.since <= run[1] + 1)
        before, after = allocation.since - began, ended - max(each.end for each in together) / 1000
        assert -1 <= before < 10 and -5 <= after < 60, (
            job,
            before,
            after,
        )  # what is requeued still saves after its end
        held += (ended - began) * allocation.tasks
        named += (before + after) * allocation.tasks
    assert abs(held - named - counted) <= 0.02 * held, f"sacct has {held} rank-seconds, the ledger {counted:.1f}"
    return jobs


def _ended_runs(jobs: Collection[str], count: int) -> dict[str, list[tuple[int, int]]]:
    """When each run of jobs began and ended, also of those that were requeued; waits until sacct has so many."""
    deadline = time.monotonic() + SECONDS
    command = ["sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", "--format=JobID,Start,End"]
    while True:
        answer = subprocess.run(
            [*command, f"--jobs={','.join(jobs)}"],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
        ).stdout
        runs = defaultdict[str, list[tuple[int, int]]](list)
        for job, start, end in (line.split("|") for line in answer.splitlines()):
            if job in jobs and start.isdigit() and end.isdigit():
                runs[job].append((int(start), int(end)))
        if sum(map(len, runs.values())) >= count:
            return runs
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)
