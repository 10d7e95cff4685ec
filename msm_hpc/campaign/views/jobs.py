"""The jobs that hold steps: which live and how they stand, and what is known of how the others ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msm_hpc.base.errors import UserError
from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import JobEnd
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import ends
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import has_begun, has_ended, leases, states_of
from msm_hpc.store.store import Store

BEHIND = JobState("pending", "behind others in its job")


@dataclass(frozen=True)
class Holders:
    """The jobs that hold steps.

    Attributes:
        leases: the job that makes each step or is queued to, dead or alive, by the step's identity.
        states: how those stand that are queued or running; unknown for all of them where nobody can be asked.
        ends: what the cluster keeps of the others.
        over: the steps, by identity, whose job lives for others that it makes, and has ended its try at them.
        behind: those whose job is still at one that comes before them.
    """

    leases: Mapping[str, JobRef]
    states: Mapping[JobRef, JobState]
    ends: Mapping[JobRef, JobEnd] = field(default_factory=dict)
    over: frozenset[str] = frozenset()
    behind: frozenset[str] = frozenset()

    def lease(self, step: Step) -> JobRef | None:
        """The job of the step's lease, dead or alive."""
        return self.leases.get(step.identity)

    def alive(self, step: Step) -> JobState | None:
        """How the job stands that has the step queued or running, if one has."""
        lease = self.lease(step)
        if lease is None or step.identity in self.over:
            return None
        return BEHIND if step.identity in self.behind else self.states.get(lease)

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
    gone = ends(job for job in found.values() if job not in living)
    held = [step for step in steps if found.get(step.identity) in living]
    over = frozenset(step.identity for step in held if has_ended(step, found[step.identity], store))
    return Holders(found, living, gone, over, _behind(held, found, living, store))


def _behind(
    held: Sequence[Step], found: Mapping[str, JobRef], living: Mapping[JobRef, JobState], store: Store
) -> frozenset[str]:
    """Of the steps in jobs that are running, those of several in one job that it has not begun."""
    shared = Counter(found[step.identity].id for step in held)
    running = [step for step in held if living[found[step.identity]].word == "running"]
    several = [step for step in running if shared[found[step.identity].id] > 1]
    return frozenset(step.identity for step in several if not has_begun(step, found[step.identity], store))
