"""How the last try at a step ended, whoever wrote it down: the step's own record, its lease, or Slurm's accounting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.campaign.views.jobs import Holders
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, same_job
from msm_hpc.launch.logs import log_of, tail
from msm_hpc.store.records import Cause
from msm_hpc.store.store import Store

NO_ROOM = re.compile("No space left on device|Disk quota exceeded")
NO_RECORD = "ended without a record (killed, out of memory, or its node was lost)"


@dataclass(frozen=True)
class Ended:
    """The end of the last try at a step.

    Attributes:
        cause: as the job recorded it; ``lost`` where it did not.
        message: what the job said, or what is known of its end.
        log: where its output is, where there is any.
        saved: how far a training got whose next try resumes.
    """

    step: Step
    cause: Cause | Literal["lost"]
    message: str
    log: Path | None
    saved: Progress | None = None


def ended(step: Step, store: Store, jobs: Holders) -> Ended | None:
    """How the last try at ``step``, which no job holds now, ended; None where it was never tried."""
    attempts, lease = store.of(step).attempts(), jobs.lease(step)
    last = attempts[-1] if attempts else None
    if lease is not None and (last is None or not (same_job(last.job, lease) or last.job.started > lease.started)):
        return _before_it_started(step, store, lease, jobs)
    if last is None:
        return None
    saved = read_progress(store.of(step).partial) if step.definition.resumable else None
    log = Path(last.log) if last.log else None
    if last.cause is not None:
        return Ended(step, last.cause, last.message or "", log, saved)
    if full := next((line for line in reversed(tail(log) if log else []) if NO_ROOM.search(line)), None):
        return Ended(step, "lost", f"the disk was full, so that its end could not be recorded: {full}", log, saved)
    state = jobs.ends.get(lease or last.job)
    return _by_state(step, state, log, saved) if state else Ended(step, "lost", NO_RECORD, log, saved)


def _before_it_started(step: Step, store: Store, job: JobRef, jobs: Holders) -> Ended:
    """The end of a job that has the lease and never recorded an attempt."""
    log = log_of(store.jobs, job)
    if state := jobs.ends.get(job):
        return _by_state(step, state, log, None)
    if any(not store.done(parent) for parent in step.parents):
        return Ended(step, "cancelled", f"job {job.id} was cancelled, as what it waited for did not come", None)
    return Ended(step, "lost", f"job {job.id} ended before it could start", log)


def _by_state(step: Step, state: str, log: Path | None, saved: Progress | None) -> Ended:
    """The end of a job that Slurm's accounting has a ``state`` of."""
    if state == "CANCELLED":
        return Ended(step, "cancelled", "cancelled in Slurm", log, saved)
    return Ended(step, "lost", f"ended without a record; its state in Slurm is {state}", log, saved)
