"""A campaign before it runs: its steps, and the job arrays that they become."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.table import Table

from msm_hpc.campaign.slurm_run import SubmissionPlan
from msm_hpc.cli.views.table import plain_table
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


def graph_table(graph: Graph, store: Store) -> Table:
    """Every step with its id, its ranks, and whether it is done."""
    table = plain_table("step", "name", "ranks", "reads", "", title=f"{len(graph.steps)} steps")
    for step in graph.steps:
        reads = Counter(parent.stage for parent in step.parents)
        text = ", ".join(f"{count} {stage}" if count > 1 else stage for stage, count in reads.items())
        table.add_row(step.id, step.name, _ranks(step), text, "[green]done[/]" if store.done(step) else "")
    return table


def _ranks(step: Step) -> str:
    return "auto" if step.kind == "train" and step.config.layout.auto else str(step.ranks)


def array_table(plan: SubmissionPlan, ids: Sequence[str] | None = None) -> Table:
    """The job arrays; with their Slurm ids once they are submitted."""
    steps = sum(len(array.steps) for array in plan.arrays)
    if not steps and not plan.running:
        return plain_table(title=f"Nothing to submit: all {plan.done} steps are done.")
    title = f"{len(plan.arrays)} arrays of {steps} steps; {plan.done} steps done, {len(plan.running)} running"
    table = plain_table("job" if ids else "#", "array", "elements", "ranks", "nodes", "waits for", title=title)
    for number, array in enumerate(plan.arrays):
        label = ids[number] if ids else str(number + 1)
        waits = "\n".join(_wait(dependency, plan.arrays) for dependency in array.dependencies)
        shape = array.shape
        table.add_row(label, array.name, str(len(array.steps)), str(shape.ranks), str(shape.nodes), waits)
    return table


def _wait(dependency: Dependency, arrays: Sequence[Array]) -> str:
    """A dependency as sbatch gets it, in words: ``pack-2, elements 0 and 3 (afterok)``."""
    array = arrays[dependency.array]
    if dependency.elements is None:
        which = ", element by element" if dependency.rule == "aftercorr" else ""
    elif len(dependency.elements) == 1:
        which = f", element {dependency.elements[0]}"
    else:
        which = f", elements {', '.join(map(str, dependency.elements))}"
    return f"{array.name}{which} ({dependency.rule})"
