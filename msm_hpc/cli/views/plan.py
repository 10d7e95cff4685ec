"""A campaign before it runs: its steps, and the job arrays that they become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from msm_hpc.campaign.array_requests import SubmissionPlan
from msm_hpc.cli.views.table import Listing
from msm_hpc.graph.arrays import Array, Dependency
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store


def counted(graph: Graph, store: Store) -> str:
    """How many steps there are of each stage, on a line."""
    counts = Counter(step.stage for step in graph.steps)
    stages = ", ".join(f"{counts[stage]} {stage}" for stage in graph.stages)
    done = len(graph.steps) - len(graph.needed(store.done))
    return f"{len(graph.steps)} steps, {done} done: {stages} (--steps lists them)"


def graph_table(graph: Graph, store: Store) -> Listing:
    """Every step with its id, its ranks, whether it is done, and what it reads."""
    table = Listing(("name", "id", "ranks", "result", "reads"), f"{len(graph.steps)} steps", right=frozenset({"ranks"}))
    for step in graph.steps:
        reads = Counter(parent.stage for parent in step.parents)
        text = ", ".join(f"{count} {stage}" if count > 1 else stage for stage, count in reads.items())
        done = Text("done", style="green") if store.done(step) else ""
        table.add(step.name, step.id, _ranks(step), done, text)
    return table


def _ranks(step: Step) -> str:
    return "auto" if step.kind == "train" and step.config.layout.auto else str(step.ranks)


def array_table(plan: SubmissionPlan, ids: Sequence[str] | None = None) -> Listing:
    """The job arrays; with their Slurm ids once they are submitted."""
    steps = sum(len(array.steps) for array in plan.arrays)
    if not steps and not plan.running:
        return Listing((), f"Nothing to submit: all {plan.done} steps are done.")
    title = f"{len(plan.arrays)} arrays of {steps} steps; {plan.done} steps done, {len(plan.running)} queued or running"
    headings = ("array", *(["job"] if ids else []), "jobs", "steps", "ranks", "nodes", "waits for")
    table = Listing(headings, title, right=frozenset({"jobs", "steps", "ranks", "nodes"}))
    for number, array in enumerate(plan.arrays):
        job = [ids[number]] if ids else []
        waits = [_wait(dependency, plan.arrays) for dependency in array.dependencies]
        shape = array.shape
        counts = (len(array.bundles), len(array.steps), shape.ranks, shape.nodes)
        table.add(array.name, *job, *map(str, counts), waits)
    return table


def _wait(dependency: Dependency, arrays: Sequence[Array]) -> str:
    """A dependency as sbatch gets it, in words: ``pack-2, elements 0-1, 4 (afterok)``."""
    array = arrays[dependency.array]
    if dependency.elements is None:
        which = ", element by element" if dependency.rule == "aftercorr" else ""
    else:
        which = f", element{'s' if len(dependency.elements) > 1 else ''} {_ranges(dependency.elements)}"
    return f"{array.name}{which} ({dependency.rule})"


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers, those in a row as a range: ``0-2, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
