"""What the commands print: plans, states, failures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from msm_hpc.campaign.arrays import Array, Dependency
from msm_hpc.campaign.graph import Graph
from msm_hpc.campaign.slurm_run import Todo
from msm_hpc.campaign.status import Standing, State
from msm_hpc.campaign.steps import Step
from msm_hpc.campaign.store import Store

COLOURS: dict[State, str] = {"done": "green", "active": "cyan", "failed": "red", "lost": "red", "waiting": "dim"}
LOG_LINES = 12


def graph_table(graph: Graph, store: Store) -> Table:
    """Every step with its id, its ranks, and whether it is done."""
    table = Table(title=f"{len(graph.steps)} steps", title_justify="left")
    table.add_column("step", no_wrap=True)
    for header in ("name", "ranks", "reads", ""):
        table.add_column(header)
    for step in graph.steps:
        reads = Counter(parent.kind for parent in step.parents)
        text = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in reads.items())
        table.add_row(step.id, step.name, str(step.ranks), text, "[green]done[/]" if store.of(step).done else "")
    return table


def array_table(todo: Todo, ids: Sequence[str] | None = None) -> Table:
    """The job arrays; with their Slurm ids once they are submitted."""
    steps = sum(len(array.steps) for array in todo.arrays)
    title = f"{len(todo.arrays)} arrays of {steps} steps; {len(todo.done)} steps done, {len(todo.running)} being made"
    table = Table("job" if ids else "#", "array", "elements", "ranks", "nodes", "waits for", title=title)
    table.title_justify = "left"
    for number, array in enumerate(todo.arrays):
        label = ids[number] if ids else str(number + 1)
        waits = "\n".join(_wait(dependency, todo.arrays) for dependency in array.dependencies)
        shape = array.shape
        table.add_row(label, array.name, str(len(array.steps)), str(shape.ranks), str(shape.nodes), waits)
    return table


def _wait(dependency: Dependency, arrays: Sequence[Array]) -> str:
    elements = "" if dependency.elements is None else f" [{', '.join(map(str, dependency.elements))}]"
    return f"{dependency.rule} {arrays[dependency.array].name}{elements}".replace("[", r"\[")


def status_table(standings: Sequence[Standing]) -> Table:
    """A line for each kind of step with the number of steps in each state, and the rank-hours spent."""
    states: tuple[State, ...] = ("done", "active", "waiting", "failed", "lost")
    table = Table("stage", *states, "rank-hours")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in dict.fromkeys(standing.step.kind for standing in standings):
        of_kind = [standing for standing in standings if standing.step.kind == kind]
        counts = Counter(standing.state for standing in of_kind)
        spent = sum(a.seconds * a.ranks for standing in of_kind for a in standing.attempts if a.end) / 3600
        cells = [f"[{COLOURS[state]}]{counts[state]}[/]" if counts[state] else "" for state in states]
        table.add_row(kind, *cells, f"{spent:.3f}")
    return table


def print_failures(console: Console, steps: Sequence[Step], store: Store) -> None:
    """For each failed step what its last attempt said, and where its log is."""
    for step in steps:
        attempts = store.of(step).attempts()
        if not attempts:
            console.print(f"[red]{step.name}[/] ended before it could start; see {store.root / 'jobs'}")
            continue
        last = attempts[-1]
        console.print(f"[red]{step.name}[/] ({step.id}): {last.cause or 'vanished'}", highlight=False)
        if last.message:
            console.print(f"  {last.message}", markup=False, highlight=False)
        console.print(f"  log: {last.log}", markup=False, highlight=False)


def tail(log: Path, lines: int = LOG_LINES) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
