"""Where every step of a campaign stands, read from the store and asked of the queue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.campaign.views.ends import Ended, ended
from msm_hpc.campaign.views.jobs import Holders
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job_state import JobState
from msm_hpc.store.campaigns import campaigns, rehearsed
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

State = Literal[
    "done",
    "running",
    "pending",
    "waiting",
    "unknown",
    "not started",
    "interrupted",
    "cancelled",
    "failed",
    "lost",
    "blocked",
    "not needed",
]
BAD: frozenset[State] = frozenset({"failed", "lost", "blocked"})


@dataclass(frozen=True)
class StepStatus:
    """One step's state.

    Of a step that a job holds: ``running``; ``pending`` in Slurm's queue, for a ``reason`` of Slurm's; ``waiting``
    there for its inputs; ``unknown`` where the job cannot be asked about from here, which ``reason`` explains.

    Of the others: ``done``; ``not started``, or its inputs were not there when it was; ``interrupted`` by a signal, and
    resumes from what it has saved; ``cancelled`` by Ctrl-C or scancel; ``failed``; ``lost``, as its job left no
    record of its end; ``blocked`` by an input that is failed, lost or blocked; ``not needed``: all that would read it
    is done.

    ``progress`` is how far a ``running`` step is, or where an ``interrupted`` or ``cancelled`` training resumes.
    ``job`` is the id of the job that holds the step, if one does.
    """

    step: Step
    state: State
    attempts: tuple[Attempt, ...]
    reason: str = ""
    end: Ended | None = None
    progress: Progress | None = None
    job: str = ""


def statuses(graph: Graph, store: Store, jobs: Holders) -> list[StepStatus]:
    """The state of every step, in the graph's order; ``jobs`` hold those that are needed."""
    needed = {step.identity for step in graph.needed(store.done)}
    tried = store.having("attempts", graph.steps)
    states: dict[str, State] = {}
    found = []
    for step in graph.steps:
        attempts = tuple(tried[step.id].attempts()) if step.id in tried else ()
        blocked = any(states[parent.identity] in BAD for parent in step.parents)
        if step.identity not in needed:
            status = StepStatus(step, "done" if store.done(step) else "not needed", attempts)
        elif held := jobs.alive(step):
            progress = read_progress(store.of(step).partial) if held.word == "running" else None
            job = lease.id if (lease := jobs.lease(step)) else ""
            status = StepStatus(step, _held(held), attempts, held.reason, progress=progress, job=job)
        else:
            end = ended(step, store, jobs)
            saved = end.saved if end else None
            status = StepStatus(step, "blocked" if blocked else _after(end), attempts, end=end, progress=saved)
        states[step.identity] = status.state
        found.append(status)
    return found


def failed(statuses: Iterable[StepStatus]) -> list[Ended]:
    """The ends of the steps that a person has to see to."""
    return [status.end for status in statuses if status.state in ("failed", "lost") and status.end]


def nothing_here(graph: Graph, store: Store) -> str | None:
    """What to say where no step of the campaign was ever tried below this root; None where one was."""
    if any((store.of(step).path / "step.json").exists() for step in graph.steps):
        return None
    others = ", ".join(campaigns(store.root))
    none = "no campaign was, so that root= may be the wrong folder"
    found = f"the campaigns that were run here are: {others}" if others else none
    where = f"no step of this campaign was ever started below {store.root}"
    return f"Nothing here yet: {where}; {found}{rehearsed(store.root)}"


def _held(job: JobState) -> State:
    return "waiting" if job.word == "pending" and job.reason == "Dependency" else job.word


def _after(end: Ended | None) -> State:
    """The state of a step whose inputs may still come, by how its last try ended."""
    if end is None or end.cause in ("upstream", "done"):  # done, and its result is gone since
        return "not started"
    if end.cause == "lost":
        return "lost"
    if end.cause in ("cancelled", "timeout", "preempted", "node") and end.saved is not None:
        return "interrupted"
    return "cancelled" if end.cause in ("cancelled", "preempted") else "failed"
