"""Where each stage stands, and what to know of the steps that a person may have to see to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from msm_hpc.base.text import few, say
from msm_hpc.campaign.views.ledger import Ledger
from msm_hpc.campaign.views.status import State, StepStatus
from msm_hpc.cli.views.table import ITEM, Listing
from msm_hpc.graph.build import Graph
from msm_hpc.store.store import Store

COLOURS: dict[State, str] = {
    "done": "green",
    "running": "cyan",
    "pending": "blue",
    "waiting": "dim",
    "unknown": "yellow",
    "not started": "dim",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "lost": "red",
    "blocked": "yellow",
    "not needed": "dim",
}
MOST = 5
"""Damages that are told apart."""
DOWN = "the nodes that they need are down, drained or reserved: `sinfo -R` says why; ask who administers the cluster"
REASONS = {
    "DependencyNeverSatisfied": "a job that they wait for failed: `scancel {jobs}`, and run again",
    "JobHeldUser": "their user holds them: `scontrol release {jobs}`",
    "JobHeldAdmin": "an administrator holds them, or Slurm since a node could not start them: ask who administers the "
    "cluster for `scontrol release {jobs}`",
    "launch failed requeued held": "a node could not start them, so Slurm holds them: `scontrol release {jobs}`; if "
    "that is refused, or happens again, ask who administers the cluster",
    "ReqNodeNotAvail": DOWN,
    "Nodes required for job are DOWN": DOWN,
    "PartitionDown": "their partition takes no jobs now: ask who administers the cluster",
    "PartitionConfig": "their partition does not take them any more: you may not be in a group that it allows, or they "
    "ask for more than it gives: see `scontrol show partition`, `scancel {jobs}`, and run again with another",
    "PartitionInactive": "their partition takes no jobs now: ask who administers the cluster",
}
"""How those of squeue's reasons begin with which a job does not start by itself, and what to do."""


def status_table(graph: Graph, statuses: Sequence[StepStatus], spent: Ledger) -> Listing:
    """A line for each stage, in the order of work: its steps by state, and the hours spent."""
    table = Listing(("stage", "steps", spent.unit, "states"), right=frozenset({"steps", spent.unit}))
    for stage in graph.stages:
        of_stage = [status for status in statuses if status.step.stage == stage]
        hours = spent.hours(steps=[status.step.id for status in of_stage])
        table.add(stage, str(len(of_stage)), f"{hours:.3f}", _states(of_stage))
    return table


def print_notes_on(console: Console, statuses: Sequence[StepStatus], store: Store) -> None:
    """Lines on the steps that run or were stopped, and on jobs that will not start or cannot be asked about."""
    for state, then in (
        ("running", ""),
        ("interrupted", "; `msm run` resumes"),
        ("cancelled", "; `msm run` runs again"),
    ):
        if alike := [status for status in statuses if status.state == state]:
            say(console, f"{state}: {few([_how_far(status) for status in alike])}{then}")
    for damage, names in _damages(statuses, store).items():
        say(console, f"{few(names)}: {damage}")
    for reason, fix in REASONS.items():
        if held := [status for status in statuses if status.reason.startswith(reason)]:
            these, jobs = few([status.step.name for status in held]), {status.job for status in held if status.job}
            say(console, f"{held[0].reason}: {these}: {fix.format(jobs=' '.join(sorted(jobs)))}")
    for why in dict.fromkeys(status.reason for status in statuses if status.state == "unknown"):
        _print_unknown(console, [status for status in statuses if status.reason == why], why, store)


def _print_unknown(console: Console, held: Sequence[StepStatus], why: str, store: Store) -> None:
    lease = store.of(held[0].step).lease()
    job = f"job {lease.id} {lease.host and f'on {lease.host} '}" if lease else "a job "
    file = store.of(held[0].step).lease_file
    names = few([status.step.name for status in held])
    say(console, f"unknown: {names}: {job}holds the first: {why}; if it is gone for certain, delete {file}")


def _damages(statuses: Sequence[StepStatus], store: Store) -> dict[str, list[str]]:
    """Why results are to be made again, with the names of the steps; only the first few reasons are told apart."""
    found: dict[str, list[str]] = {}
    wanted = {status.step.id: status.step for status in statuses if status.state not in ("done", "not needed")}
    for step_id, folder in store.having("done.json", wanted.values()).items():
        if damage := folder.damage():
            reason = damage if len(found) < MOST else "damaged or deleted, too"
            found.setdefault(reason, []).append(wanted[step_id].name)
    return found


def _states(statuses: Sequence[StepStatus]) -> Text:
    """``4 done, 2 pending (Priority)``."""
    counts = Counter(
        (status.state, _briefly(status.reason) if status.state == "pending" else "") for status in statuses
    )
    parts = list(_counted(counts))
    return Text(f",{ITEM}").join(parts)


def _briefly(reason: str) -> str:
    """A reason of squeue's as a word; what many words say stands below the table."""
    return "held" if reason.endswith("held") else reason.split()[0].removesuffix(",") if reason else ""


def _counted(counts: Counter[tuple[State, str]]) -> Iterator[Text]:
    for state, colour in COLOURS.items():
        for (each, reason), count in sorted(counts.items()):
            if each == state:
                yield Text(f"{count} {state}" + (f" ({reason})" if reason else ""), style=colour)


def _how_far(status: StepStatus) -> str:
    progress = status.progress
    at = f" at {progress.done:,} of {progress.total:,} {progress.unit}" if progress else ""
    return f"{status.step.name}{at}"
