"""Where every step of a campaign stands, read from the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msm_hpc.campaign.views.jobs import Holders
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.campaigns import campaigns
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

State = Literal["done", "active", "waiting", "failed", "lost", "blocked", "not needed"]


@dataclass(frozen=True)
class StepStatus:
    """One step's state.

    ``active``: its job is queued or running; ``lost``: its job ended without a record; ``blocked``: it waits for a
    step that is failed, lost or blocked; ``not needed``: it is not done, and all that would read it is.
    """

    step: Step
    state: State
    attempts: tuple[Attempt, ...]


def statuses(graph: Graph, store: Store, jobs: Holders) -> list[StepStatus]:
    """The state of every step, in the graph's order; ``jobs`` hold those that are needed."""
    needed = {step.identity for step in graph.needed(store.done)}
    states: dict[str, State] = {}
    found = []
    for step in graph.steps:
        attempts = tuple(store.of(step).attempts())
        if step.identity not in needed:
            state: State = "done" if store.done(step) else "not needed"
        elif jobs.running(step):
            state = "active"
        elif any(states[parent.identity] in ("failed", "lost", "blocked") for parent in step.parents):
            state = "blocked"
        else:
            state = _ended(attempts, held=jobs.lease(step) is not None)
        states[step.identity] = state
        found.append(StepStatus(step, state, attempts))
    return found


def nothing_here(graph: Graph, store: Store) -> str | None:
    """What to say where no step of the campaign was ever tried below this root; None where one was."""
    if any((store.of(step).path / "step.json").exists() for step in graph.steps):
        return None
    others = ", ".join(campaigns(store.root))
    found = (
        f"the campaigns that were run here are: {others}" if others else "no campaign was: is root= the right folder?"
    )
    return f"Nothing here yet: no step of this campaign was ever started below {store.root}; {found}"


def _ended(attempts: tuple[Attempt, ...], held: bool) -> State:
    """The state of a step that no living job holds, by its last attempt; ``held``: a dead job still has its lease."""
    last = attempts[-1].cause if attempts else "cancelled"
    if last == "done":  # its result was damaged or deleted since
        return "waiting"
    if last == "cancelled":
        return "lost" if held else "waiting"
    return "failed" if last is not None else "lost"
