"""Where every step of a campaign stands: read from the store, with at most one call of squeue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msm_hpc.campaign.graph import Graph
from msm_hpc.campaign.steps import Step
from msm_hpc.campaign.store import Attempt, Store
from msm_hpc.launch.jobs import JobRef, living

State = Literal["done", "active", "failed", "lost", "waiting"]


@dataclass(frozen=True)
class Standing:
    """One step's state. ``active``: its job is queued or running; ``lost``: its job vanished without a word."""

    step: Step
    state: State
    job: JobRef | None
    attempts: tuple[Attempt, ...]


def standings(graph: Graph, store: Store) -> list[Standing]:
    """The state of every step, in the graph's order."""
    leases = {step.identity: store.of(step).lease() for step in graph.steps}
    alive = living([lease for lease in leases.values() if lease is not None])
    return [_standing(step, store, leases[step.identity], alive) for step in graph.steps]


def _standing(step: Step, store: Store, lease: JobRef | None, alive: frozenset[JobRef]) -> Standing:
    folder = store.of(step)
    attempts = tuple(folder.attempts())
    state: State
    if folder.done:
        state = "done"
    elif lease in alive:
        state = "active"
    elif attempts and attempts[-1].cause is not None:
        state = "failed"
    else:
        state = "lost" if attempts or lease is not None else "waiting"
    return Standing(step, state, lease, attempts)
