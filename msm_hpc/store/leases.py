"""Which jobs may have a step: the one that makes it, by its lease, and those that it is queued in, by the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import RUN_AGAIN
from msm_hpc.launch.job import JobRef, same_job
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import states
from msm_hpc.store.journal import Journal, Submission
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store


def leases(steps: Sequence[Step], store: Store) -> dict[str, JobRef]:
    """The newest job of each step that has any, dead or alive, by the step's identity."""
    found = jobs_of(steps, store, Journal(store.root).read())
    return {identity: jobs[-1] for identity, jobs in found.items() if jobs}


def jobs_of(steps: Sequence[Step], store: Store, submissions: Sequence[Submission]) -> Mapping[str, tuple[JobRef, ...]]:
    """All jobs of each step, dead or alive, oldest first, by the step's identity."""
    queued: dict[str, list[JobRef]] = defaultdict(list)
    for submission in submissions:
        for step_id, job in submission.jobs.items():
            queued[step_id].append(job)
    leased = {step_id: folder.lease() for step_id, folder in store.having("lease.json", steps).items()}
    return {step.identity: _oldest_first(leased.get(step.id), queued[step.id]) for step in steps}


def states_of(jobs: Iterable[JobRef], journal: Journal) -> Mapping[JobRef, JobState]:
    """How those of ``jobs`` stand that live, as :func:`~msm_hpc.launch.launcher.states` says.

    A job that Slurm may not show here lives for as long as the journal names it, whatever the lease and the attempts
    of its step say: if it is gone and left no record, nothing but its lines there must be deleted.

    Raises:
        UserError: squeue fails, so that it is unknown.
    """
    found = states(jobs)
    hidden = {job for job, state in found.items() if job.launcher == "slurm" and state.word == "unknown"}
    named = {(job.id, job.cluster) for each in (journal.read() if hidden else ()) for job in each.jobs.values()}
    return {job: state for job, state in found.items() if job not in hidden or (job.id, job.cluster) in named}


def has_begun(step: Step, job: JobRef, store: Store) -> bool:
    """Whether ``job`` has begun to make this one of its steps."""
    return _last_try(step, job, store) is not None


def has_ended(step: Step, job: JobRef, store: Store) -> bool:
    """Whether ``job``, which may live for other steps, has recorded the end of this one and does not try it again."""
    last = _last_try(step, job, store)
    return last is not None and last.cause is not None and last.cause not in RUN_AGAIN


def _last_try(step: Step, job: JobRef, store: Store) -> Attempt | None:
    newest = store.of(step).newest()
    last = newest.read() if newest else None
    return last if last and same_job(last.job, job) else None


def _oldest_first(lease: JobRef | None, queued: Sequence[JobRef]) -> tuple[JobRef, ...]:
    return tuple(sorted([*queued, *([lease] if lease else [])], key=lambda job: job.started))
