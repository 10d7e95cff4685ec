"""The jobs that hold steps: which live and how they stand, and what is known of how the others ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msm_hpc.base.errors import UserError
from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import JobEnd
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import ends
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import leases, states_of
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class Holders:
    """The jobs that hold steps.

    Attributes:
        leases: the job that makes each step or is queued to, dead or alive, by the step's identity.
        states: how those stand that are queued or running; unknown for all of them where nobody can be asked.
        ends: what the cluster keeps of the others.
    """

    leases: Mapping[str, JobRef]
    states: Mapping[JobRef, JobState]
    ends: Mapping[JobRef, JobEnd] = field(default_factory=dict)

    def lease(self, step: Step) -> JobRef | None:
        """The job of the step's lease, dead or alive."""
        return self.leases.get(step.identity)

    def alive(self, step: Step) -> JobState | None:
        """How the job stands that has the step queued or running, if one has."""
        lease = self.lease(step)
        return self.states.get(lease) if lease else None

    def in_words(self, step: Step) -> str | None:
        """What :meth:`alive` says, to be put behind the step's name."""
        job, state = self.lease(step), self.alive(step)
        if job is None or state is None:
            return None
        if state.word == "running":
            return f"is running, in job {job.id}"
        if state.word == "pending":
            return f"is queued, as job {job.id} ({state.reason})"
        return f"is held by job {job.id}: {state.reason}"


def holders(steps: Sequence[Step], store: Store) -> Holders:
    """Ask how the jobs of ``steps`` stand, with at most one call of squeue, and one of sacct about those that ended."""
    found = leases(steps, store)
    try:
        living = states_of(found.values(), Journal(store.root))
    except UserError as error:
        return Holders(found, dict.fromkeys(found.values(), JobState("unknown", str(error))))
    return Holders(found, living, ends(job for job in found.values() if job not in living))
