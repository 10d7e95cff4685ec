"""What is known now of how tries ended, written into their records by the run that repeats them: Slurm forgets it.

That is the end of those that could not record it themselves; and the cause of those that lost a rank whose node Slurm
knows to be down by now, which it did not when they ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from msm_hpc.campaign.views.ends import Ended
from msm_hpc.campaign.views.jobs import Holders
from msm_hpc.campaign.views.triage import VERDICT
from msm_hpc.launch.causes import end_of_run
from msm_hpc.launch.job import same_job
from msm_hpc.launch.launcher import down
from msm_hpc.store.records import stamp


def settled(ends: Sequence[Ended], jobs: Holders) -> list[Ended]:
    """The ``ends`` of tries at steps that no job of ``jobs`` holds, as they are recorded from now on."""
    hosts = [(job, host) for end in ends if (host := _lost_host(end)) and (job := jobs.lease(end.step))]
    words = down(hosts)
    found = [_with_its_node(end, words) for end in ends]
    for end in found:
        with contextlib.suppress(OSError):  # the record may belong to another user of the group
            _record(end, jobs)
    return found


def _lost_host(end: Ended) -> str:
    """The short name of the host of the rank that was lost, where that is the cause."""
    verdict = VERDICT.search(end.message) if end.cause == "rank lost" else None
    return verdict["host"].partition(".")[0] if verdict else ""


def _with_its_node(end: Ended, words: Mapping[str, str]) -> Ended:
    host = _lost_host(end)
    return replace(end, cause="node", evidence=words[host], nodes=(host,)) if host in words else end


def _record(end: Ended, jobs: Holders) -> None:
    lease, record = jobs.lease(end.step), end.attempt.read() if end.attempt else None
    if end.attempt is None or record is None or lease is None or not same_job(record.job, lease):
        return
    cause = record.cause if end.cause == "lost" else end.cause
    if record.end and record.cause == cause:
        return
    kept = jobs.ends.get(lease)
    last = end_of_run(kept.runs, record.began) if kept else None
    over = record.end or stamp(last or end.attempt.last_sign)
    end.attempt.write(replace(record, end=over, cause=cause, message=end.message, evidence=end.evidence))
