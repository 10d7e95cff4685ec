"""Where each stage stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from msm_hpc.campaign.views.status import State, StepStatus
from msm_hpc.cli.views.table import plain_table
from msm_hpc.graph.build import Graph

COLOURS: dict[State, str] = {
    "done": "green",
    "active": "cyan",
    "waiting": "dim",
    "failed": "red",
    "lost": "red",
    "blocked": "yellow",
    "not needed": "dim",
}


def status_table(graph: Graph, statuses: Sequence[StepStatus]) -> Table:
    """A line for each stage, in the order of work: how many steps are in each state, and the rank-hours spent."""
    there = {status.state for status in statuses}
    states = [state for state in COLOURS if state != "not needed" or state in there]
    table = plain_table("stage", *(state.replace(" ", "\n") for state in states), "rank-\nhours")
    for column in table.columns[1:]:
        column.justify = "right"
    for stage in graph.stages:
        of_stage = [status for status in statuses if status.step.stage == stage]
        counts = Counter(status.state for status in of_stage)
        spent = sum(a.seconds * a.ranks for status in of_stage for a in status.attempts if a.end) / 3600
        cells = [f"[{COLOURS[state]}]{counts[state]}[/]" if counts[state] else "" for state in states]
        table.add_row(stage, *cells, f"{spent:.3f}")
    return table
