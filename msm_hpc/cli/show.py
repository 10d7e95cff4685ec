"""What the commands print: plans, states, failures."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from msm_hpc.campaign.needs import Training
from msm_hpc.campaign.rehearsal import Cut
from msm_hpc.campaign.slurm_run import SubmissionPlan
from msm_hpc.campaign.views.status import State, StepStatus
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.arrays import Array, Dependency
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.logs import tail
from msm_hpc.planner.memory import GIB
from msm_hpc.store.store import Store
from msm_hpc.training.record.metrics import FEW_STEPS

COLOURS: dict[State, str] = {
    "done": "green",
    "active": "cyan",
    "waiting": "dim",
    "failed": "red",
    "lost": "red",
    "blocked": "yellow",
}
LITTLE = 2**20
"""Fewer free bytes than these are told below failures."""
NAMES = 4
"""Of steps that share something, named one by one."""


def counted(graph: Graph, store: Store) -> str:
    """How many steps there are of each kind, on a line."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(step.kind for step in graph.steps).items())
    done = sum(store.of(step).done for step in graph.steps)
    return f"{len(graph.steps)} steps, {done} done: {kinds} (--steps lists them)"


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


def needs_table(found: Sequence[Training]) -> Table:
    """What each kind of training needs; times are for full rows, and unknown where these are until they are packed."""
    headers = (
        "runs",
        "layout",
        "ranks",
        "memory\na rank",
        "optimizer\nsteps",
        "tokens",
        "s per\noptimizer\nstep",
        "hours",
        "GPU\nhours",
    )
    table = Table(title="What trainings need, by formula", title_justify="left")
    table.add_column("training", no_wrap=True)
    for header in headers:
        table.add_column(header, no_wrap=True)
    for each in found:
        training = f"{each.steps[0].kind}\n{_recipe(each.config)}"
        table.add_row(training, str(len(each.steps)), *_needs(each), end_section=True)
    table.caption = "; ".join(_caption(found))
    return table


def _caption(found: Sequence[Training]) -> Iterator[str]:
    hours = [each.rank_hours for each in found if each.rank_hours is not None]
    if hours:
        whose = "all" if len(hours) == len(found) else f"{len(hours)} of {len(found)} lines"
        yield f"{sum(hours):,.1f} GPU-hours in {whose}"
        yield _speeds(found)
    if any(each.rows is None for each in found):
        yield "what is missing is known once the rows are packed (of a midtrain.tokens budget without replay: before)"


def _recipe(config: TrainConfig) -> str:
    """What a wrong default would show in."""
    adapter = f", LoRA {config.lora.rank}" if config.lora else ""
    batch = f"{config.global_batch_size} x {config.sequence_length:,} tokens"
    return f"{batch}\n{config.precision}{adapter}\nlr {config.learning_rate:g}"


def _needs(training: Training) -> list[str]:
    config, steps = training.config, training.optimizer_steps
    layout = config.layout
    cut = (layout.tensor_parallel, layout.pipeline_parallel, layout.context_parallel, layout.data_parallel)
    name = " ".join(f"{word}{ranks}" for word, ranks in zip(("TP", "PP", "CP", "DP"), cut, strict=True) if ranks > 1)
    chunks = f" VPP{layout.virtual_pipeline}" if layout.virtual_pipeline > 1 else ""
    has = "?" if training.room is None else f"{training.room / GIB:.0f}"
    tokens = None if steps is None else steps * config.global_batch_size * config.sequence_length
    about = "" if training.rows is None or training.rows.exact else "about "
    time = training.forecast
    return [
        f"{name or 'one rank'}{chunks}\nx {config.micro_batch_size} row(s)",
        str(layout.world_size),
        f"{training.memory.total / GIB:.1f}\nof {has} GiB",
        "unknown" if steps is None else f"{about}{steps:,}{_warning(steps)}",
        "" if tokens is None else f"{about}{tokens:,}",
        "" if time is None else f"{time.seconds_per_step:.3g}",
        "" if training.seconds is None else f"{training.seconds / 3600:.2f}",
        "" if training.rank_hours is None else f"{training.rank_hours:,.1f}",
    ]


def _warning(steps: int) -> str:
    return f"\n[yellow]fewer than {FEW_STEPS}[/]" if steps < FEW_STEPS else ""


def _speeds(found: Sequence[Training]) -> str:
    rates = {(each.forecast.mfu, each.forecast.measured) for each in found if each.forecast is not None}
    words = [f"{mfu:.0%} {'measured' if measured else 'assumed'}" for mfu, measured in sorted(rates)]
    return f"MFU {', '.join(words)}"


def array_table(plan: SubmissionPlan, ids: Sequence[str] | None = None) -> Table:
    """The job arrays; with their Slurm ids once they are submitted."""
    steps = sum(len(array.steps) for array in plan.arrays)
    if not steps and not plan.running:
        return Table(
            title=f"nothing to submit: all {len(plan.done)} steps are done; another root= shows the whole plan"
        )
    title = f"{len(plan.arrays)} arrays of {steps} steps; {len(plan.done)} steps done, {len(plan.running)} being made"
    table = Table("job" if ids else "#", "array", "elements", "ranks", "nodes", "waits for", title=title)
    table.title_justify = "left"
    for number, array in enumerate(plan.arrays):
        label = ids[number] if ids else str(number + 1)
        waits = "\n".join(_wait(dependency, plan.arrays) for dependency in array.dependencies)
        shape = array.shape
        table.add_row(label, array.name, str(len(array.steps)), str(shape.ranks), str(shape.nodes), waits)
    return table


def _wait(dependency: Dependency, arrays: Sequence[Array]) -> str:
    """In words what sbatch is told, such as ``pack-2, elements 0 and 3 (afterok)``."""
    array = arrays[dependency.array]
    if dependency.elements is None:
        which = ", element by element" if dependency.rule == "aftercorr" else ""
    elif len(dependency.elements) == 1:
        which = f", element {dependency.elements[0]}"
    else:
        which = f", elements {', '.join(map(str, dependency.elements))}"
    return f"{array.name}{which} ({dependency.rule})"


def status_table(statuses: Sequence[StepStatus]) -> Table:
    """A line for each kind of step with the number of steps in each state, and the rank-hours spent."""
    table = Table("stage", *COLOURS, "rank-hours")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in dict.fromkeys(status.step.kind for status in statuses):
        of_kind = [status for status in statuses if status.step.kind == kind]
        counts = Counter(status.state for status in of_kind)
        spent = sum(a.seconds * a.ranks for status in of_kind for a in status.attempts if a.end) / 3600
        cells = [f"[{COLOURS[state]}]{counts[state]}[/]" if counts[state] else "" for state in COLOURS]
        table.add_row(kind, *cells, f"{spent:.3f}")
    return table


def print_failures(console: Console, steps: Sequence[Step], store: Store) -> None:
    """For each failed step what its last attempt said, where its log is, and the log's last lines."""
    for step in steps:
        attempts = store.of(step).attempts()
        if not attempts:
            console.print(Text.assemble((step.name, "red"), f" ended before it could start; look into {store.jobs}"))
            continue
        last = attempts[-1]
        cause = last.cause or "vanished without a word (killed, out of memory, or its node was lost)"
        console.print(Text.assemble((step.name, "red"), f" ({step.id}): {cause}"))
        plain = [f"  {last.message}"] if last.message else [f"  | {line}" for line in tail(last.log)]
        for line in [*plain, f"  log: {last.log}"]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if steps:
        _print_full_disk(console, store.root)


def _print_full_disk(console: Console, root: Path) -> None:
    """Tell that hardly a byte is free: not every failure for want of room could be written."""
    free = shutil.disk_usage(root).free
    if free < LITTLE:
        line = f"{root} has {free:,} bytes free: free some, and run again; it goes on from what is complete"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def names_of(steps: Sequence[Step]) -> str:
    """The step with its id, or how many they are and the first few names."""
    first, *more = steps
    if not more:
        return escape(f"{first.name} ({first.id})")
    names = ", ".join(step.name for step in steps[:NAMES])
    return escape(f"{len(steps)} steps: {names}{' …' if len(steps) > NAMES else ''}")


def cuts_table(cuts: Sequence[Cut]) -> Table:
    """What a rehearsal has cut: the true value and the rehearsed one."""
    table = Table("cut", "true", "rehearsed", title="Cut for the rehearsal", title_justify="left")
    for cut in cuts:
        table.add_row(*(escape(text) for text in (cut.key, cut.true, cut.rehearsed)))
    return table
