"""``python -m benchmarks.idle_gap``: how long a step's job waits once what it reads is there, on a real Slurm.

    slurm/single_machine/with_cluster.sh python -m benchmarks.idle_gap

It makes and packs corpora of the demo, three jobs one behind another for each, and measures from the end of the
last step that a job's steps read to the start of that job, by our records and Slurm's accounts. Beside it, in the same
cluster and afterwards, stand bare arrays of ``sleep`` with ``sbatch --dependency``, from the end of a job to the start
of the next. Accounts are in whole seconds, so means over all links are compared.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.slurm_run import plan_submission, submit
from msm_hpc.config.compose import load_configs
from msm_hpc.graph.build import Graph, build_graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.journal import Journal
from msm_hpc.store.store import Store

RESOURCES = ("cluster=slurm", "cluster.resources.cpu.memory_gb=1", "cluster.resources.cpu.cpus_per_rank=1")
Times = Mapping[str, tuple[float, float]]
"""When each job began and ended, by its id, in seconds."""


def main() -> None:
    """Print the mean gap of both, with the number of links."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [*_ours(Path(folder) / "runs")]
        bare = [*_bare(elements=4, links=5)]
    for name, gaps in {"msm": ours, "bare sbatch": bare}.items():
        print(f"{name:<12} {len(gaps):>3} links, {fmean(gaps):.2f} s on average, {max(gaps):.0f} s at most")


def _ours(root: Path) -> Iterator[float]:
    configs = load_configs(["campaign=demo", "campaign.arms=[aft]", "campaign.seeds=[0]", f"root={root}", *RESOURCES])
    whole = build_graph(configs, ExternalInputs({}))
    graph, store, cluster = Graph(tuple(s for s in whole.steps if s.kind == "pack")), Store(root), configs[0].cluster
    submit(lambda: plan_submission("gaps", graph, store, cluster), store, cluster, print)
    jobs = {step: job.id for each in Journal(root).read() for step, job in each.jobs.items()}
    times = _when_ended(set(jobs.values()))
    if lacking := [step.name for step in graph.steps if not store.done(step)]:
        raise SystemExit(f"not made: {', '.join(lacking)}")
    read: dict[str, set[Step]] = defaultdict(set)
    for step in graph.steps:
        read[jobs[step.id]] |= {parent for parent in step.parents if jobs[parent.id] != jobs[step.id]}
    for job, parents in read.items():
        if parents:
            yield times[job][0] - max(_ended(store, parent) for parent in parents)


def _ended(store: Store, step: Step) -> int:
    """In whole seconds, as accounts are."""
    end = store.of(step).attempts()[-1].end
    assert end is not None
    return int(datetime.fromisoformat(end).timestamp())


def _bare(elements: int, links: int) -> Iterator[float]:
    """Arrays of which each waits for all of the one before."""
    arrays: list[str] = []
    for _ in range(links + 1):
        wait = [f"--dependency=afterok:{arrays[-1]}"] if arrays else []
        command = ["sbatch", "--parsable", f"--array=0-{elements - 1}", "--mem=200", "--wrap", "sleep 3", *wait]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
        arrays.append(answer.stdout.strip())
    times = _when_ended({f"{array}_{element}" for array in arrays for element in range(elements)})
    for before, after in pairwise(arrays):
        ended = max(times[f"{before}_{element}"][1] for element in range(elements))
        yield from (times[f"{after}_{element}"][0] - ended for element in range(elements))


def _when_ended(jobs: Iterable[str]) -> Times:
    """Wait until all have ended."""
    wanted = set(jobs)
    command = ["sacct", "-X", "-n", "-P", "-o", "JobID,Start,End", "-j", ",".join(sorted(wanted))]
    while True:
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=_IN_SECONDS).stdout
        rows = (line.split("|") for line in said.splitlines())
        times = {job: (float(start), float(end)) for job, start, end in rows if end.isdigit() and start.isdigit()}
        if wanted <= times.keys():
            return times
        time.sleep(1)


_IN_SECONDS = {**os.environ, "SLURM_TIME_FORMAT": "%s"}


if __name__ == "__main__":
    main()
