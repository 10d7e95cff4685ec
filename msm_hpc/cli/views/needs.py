"""What trainings need, by formula: memory, steps, time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from msm_hpc.campaign.needs import BYTES_A_TOKEN, Training
from msm_hpc.cli.views.table import plain_table
from msm_hpc.config.training import TrainConfig
from msm_hpc.planner.memory import GIB
from msm_hpc.training.record.metrics import FEW_STEPS


def needs_table(found: Sequence[Training]) -> Table:
    """What each kind of training needs; times are for full rows, and unknown where these are until they are packed."""
    headings = ["training", "runs", "layout", "memory\na rank", "optimizer\nsteps"]
    timed = any(each.forecast is not None for each in found)
    table = plain_table(*headings, *(["time of a run"] if timed else []), title="What trainings need, by formula")
    several = len({each.model for each in found}) > 1
    for each in found:
        heading = [each.steps[0].stage, *([each.model] if several else []), _recipe(each.config)]
        cells = ["\n".join(heading), str(len(each.steps)), _layout(each.config), _memory(each), _steps(each)]
        table.add_row(*cells, *([_time(each)] if timed else []), end_section=True)
    table.caption = "; ".join(_caption(found))
    return table


def _recipe(config: TrainConfig) -> str:
    """What a wrong default would show in."""
    adapter = f"LoRA {config.lora.rank}\n" if config.lora else ""
    batch = f"{config.global_batch_size} x {config.sequence_length:,} tokens"
    return f"{batch}\n{config.precision}\n{adapter}lr {config.learning_rate:g}"


def _layout(config: TrainConfig) -> str:
    ranks = "\n(".join(str(config.layout).split(" ("))
    return f"{ranks}\nx {config.micro_batch_size} row(s)"


def _memory(training: Training) -> str:
    has = "?" if training.room is None else f"{training.room / GIB:.0f}"
    return f"{training.memory.total / GIB:.1f}\nof {has} GiB"


def _steps(training: Training) -> str:
    """Optimizer steps of a run, and its tokens."""
    steps, config = training.optimizer_steps, training.config
    if steps is None:
        return "unknown"
    about = "" if training.rows is None or training.rows.exact else "about "
    tokens = steps * config.global_batch_size * config.sequence_length
    warning = f"\n[yellow]fewer than {FEW_STEPS}[/]" if steps < FEW_STEPS else ""
    return f"{about}{steps:,}{warning}\n{about}{tokens:,} tokens"


def _time(training: Training) -> str:
    if training.forecast is None:
        return ""
    step = f"{training.forecast.seconds_per_step:.3g} s a step"
    if training.seconds is None or training.rank_hours is None:
        return step
    whole = f"{training.rank_hours:,.1f} GPU-hours" + (" in all" if len(training.steps) > 1 else "")
    return f"{training.seconds / 3600:.2f} hours{_requeues(training)}\n{step}\n{whole}"


def _requeues(training: Training) -> str:
    """What the time limit of a job makes of a run that takes longer."""
    if not training.requeues:
        return ""
    return f"\n[yellow]{training.requeues} requeue(s)\nof {training.minutes} minutes[/]"


def _caption(found: Sequence[Training]) -> Iterator[str]:
    hours = [each.rank_hours for each in found if each.rank_hours is not None]
    if hours:
        whose = "all" if len(hours) == len(found) else f"{len(hours)} of {len(found)} lines"
        yield f"{sum(hours):,.1f} GPU-hours in {whose}"
        yield _speeds(found)
    if any(each.rows is not None and each.rows.from_bytes for each in found):
        yield f"rows of sources without a budget of tokens: by the bytes of their files, {BYTES_A_TOKEN} a token"
    if any(each.rows is None for each in found):
        yield "what is missing is known once the rows are packed (of sources with a budget of tokens: before)"


def _speeds(found: Sequence[Training]) -> str:
    rates = {(each.forecast.mfu, each.forecast.measured) for each in found if each.forecast is not None}
    words = [f"{mfu:.0%} {'measured' if measured else 'assumed'}" for mfu, measured in sorted(rates)]
    return f"MFU {', '.join(words)}"
