"""Where every step of a campaign stands: read from the store, with at most one call of squeue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.jobs import JobRef, living
from msm_hpc.store.store import Attempt, Store

State = Literal["done", "active", "waiting", "failed", "lost", "blocked"]


@dataclass(frozen=True)
class StepStatus:
    """One step's state.

    ``active``: its job is queued or running; ``lost``: its job vanished without a word; ``blocked``: it waits for a
    step that is failed, lost or blocked.
    """

    step: Step
    state: State
    attempts: tuple[Attempt, ...]


def statuses(graph: Graph, store: Store) -> list[StepStatus]:
    """The state of every step, in the graph's order."""
    leases = {step.identity: store.of(step).lease() for step in graph.steps}
    alive = living([lease for lease in leases.values() if lease is not None])
    states: dict[str, State] = {}
    found = []
    for step in graph.steps:
        attempts = tuple(store.of(step).attempts())
        stuck = any(states[parent.identity] in ("failed", "lost", "blocked") for parent in step.parents)
        states[step.identity] = _state(store.of(step).done, leases[step.identity], alive, attempts, stuck)
        found.append(StepStatus(step, states[step.identity], attempts))
    return found


def nothing_here(graph: Graph, store: Store) -> str | None:
    """What to say where no step of the campaign was ever tried below this root; None where one was."""
    if any((store.of(step).path / "step.json").exists() for step in graph.steps):
        return None
    others = ", ".join(store.campaigns())
    found = (
        f"the campaigns that were run here are: {others}" if others else "no campaign was: is root= the right folder?"
    )
    return f"Nothing here yet: no step of this campaign was ever started below {store.root}; {found}"


def _state(
    done: bool, lease: JobRef | None, alive: frozenset[JobRef], attempts: tuple[Attempt, ...], stuck: bool
) -> State:
    if done:
        return "done"
    if lease in alive:
        return "active"
    if stuck:
        return "blocked"
    last = attempts[-1].cause if attempts else "cancelled"
    if last == "cancelled":
        return "lost" if lease is not None else "waiting"
    return "failed" if last is not None else "lost"
