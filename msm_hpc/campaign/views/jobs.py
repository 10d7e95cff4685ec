"""Which steps are held by a job that is queued or running."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.launcher import living
from msm_hpc.store.leases import leases
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class Holders:
    """The jobs that hold steps.

    Attributes:
        leases: the job that makes each step or is queued to, dead or alive, by the step's identity.
        alive: those that are queued or running; all of them where that cannot be known.
        doubt: why it cannot be known, if so.
    """

    leases: Mapping[str, JobRef]
    alive: frozenset[JobRef]
    doubt: str | None = None

    def lease(self, step: Step) -> JobRef | None:
        """The job of the step's lease, dead or alive."""
        return self.leases.get(step.identity)

    def running(self, step: Step) -> JobRef | None:
        """The queued or running job of a step."""
        job = self.lease(step)
        return job if job in self.alive else None


def holders(steps: Sequence[Step], store: Store) -> Holders:
    """Ask which jobs of ``steps`` are alive, with at most one call of squeue."""
    found = leases(steps, store)
    try:
        return Holders(found, living(found.values()))
    except UserError as error:
        return Holders(found, frozenset(found.values()), str(error))
