"""What trainings need: memory by formula, steps, time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from msm_hpc.base.text import few
from msm_hpc.campaign.needs import Training
from msm_hpc.cli.views.ledger import duration, in_hours
from msm_hpc.cli.views.table import BREAK, Cell, Listing
from msm_hpc.config.training import TrainConfig
from msm_hpc.planner.forecast import Source
from msm_hpc.planner.memory import GIB
from msm_hpc.training.record.metrics import FEW_STEPS


def needs_table(found: Sequence[Training], unit: str) -> Listing:
    """What each kind of training needs; times are for full rows, and unknown where these are until they are packed."""
    timed = any(each.forecast is not None for each in found)
    headings = ("training", "runs", "layout", "memory a rank", "optimizer steps", *(["time of a run"] if timed else []))
    table = Listing(headings, "What trainings need", list(_notes(found, unit)))
    several = len({each.model for each in found}) > 1
    names = [(each.steps[0].stage, *([each.model] if several else []), *_recipe(each.config)) for each in found]
    for each, name in zip(found, names, strict=True):
        training = [*name, *(_whose(each) if names.count(name) > 1 else [])]
        cells = (training, str(len(each.steps)), _layout(each.config), _memory(each), _steps(each))
        table.add(*cells, *([_time(each, unit)] if timed else []))
    return table


def _recipe(config: TrainConfig) -> list[str]:
    """What a wrong default would show in."""
    adapter = [f"LoRA {config.lora.rank}"] if config.lora else []
    batch = f"{config.global_batch_size} x {config.sequence_length:,} tokens"
    return [batch, config.precision, *adapter, f"lr {config.learning_rate:g}"]


def _whose(training: Training) -> list[str]:
    """What tells trainings of one recipe apart, as their specs do where each has files of its own."""
    names = dict.fromkeys(step.name.partition("/seed")[0] for step in training.steps)
    return [few([*names], most=2)]


def _layout(config: TrainConfig) -> str:
    ranks = str(config.layout).replace(" (", f"{BREAK}(")
    return f"{ranks}{BREAK}x {config.micro_batch_size} row(s)"


def _memory(training: Training) -> str:
    has = "?" if training.room is None else f"{training.room / GIB:.0f}"
    return f"{training.memory.total / GIB:.1f}{BREAK}of {has} GiB"


def _steps(training: Training) -> Cell:
    """Optimizer steps of a run, and its tokens."""
    steps, config = training.optimizer_steps, training.config
    if steps is None:
        return "unknown"
    about = "" if training.rows is None or training.rows.exact else "about "
    tokens = steps * config.global_batch_size * config.sequence_length
    few = Text(f"fewer than {FEW_STEPS}\n", style="yellow") if steps < FEW_STEPS else Text()
    return Text.assemble(f"{about}{steps:,}\n", few, f"{about}{tokens:,}{BREAK}tokens")


def _time(training: Training, unit: str) -> Cell:
    if training.forecast is None:
        return ""
    step = f"{training.forecast.seconds_per_step:.3g} s a step"
    if training.seconds is None or training.rank_hours is None:
        return step
    whole = f"{in_hours(training.rank_hours)} {unit}" + (f"{BREAK}in all" if len(training.steps) > 1 else "")
    return Text.assemble(f"{duration(training.seconds)}\n", _requeues(training), f"{step}\n{whole}")


def _requeues(training: Training) -> Text:
    """What the time limit of a job makes of a run that takes longer."""
    if not training.requeues:
        return Text()
    return Text(f"{training.requeues} requeue(s){BREAK}of {training.minutes} minutes\n", style="yellow")


def _notes(found: Sequence[Training], unit: str) -> Iterator[str]:
    hours = [each.rank_hours for each in found if each.rank_hours is not None]
    if hours:
        whose = "all" if len(hours) == len(found) else f"{len(hours)} of {len(found)} lines"
        yield f"{in_hours(sum(hours))} {unit} in {whose}"
    if any(each.forecast is not None for each in found):
        yield f"Times are {_speeds(found)}; memory is by formula."
    if any(each.rows is not None and each.rows.sampled for each in found):
        yield "Steps are forecast from a sample of your rows, packed, or by a source's tokens_a_row."
    if any(each.rows is None for each in found):
        yield "Steps that are unknown here are known once the rows are packed."


def _speeds(found: Sequence[Training]) -> str:
    """What times are from: ``by own trainings (41% of the GPU's peak), by formula (an assumed 32 to 35% of …)``."""
    rates = {(each.forecast.by, each.forecast.mfu) for each in found if each.forecast is not None}
    by_source = {by: sorted(mfu for each, mfu in rates if each == by and mfu is not None) for by, _ in rates}
    return ", ".join(f"by {by}{_mfu(by, mfus)}" for by, mfus in sorted(by_source.items()))


def _mfu(by: Source, mfus: Sequence[float]) -> str:
    """The share of the peak that trainings reach, or the range of it where their layouts differ."""
    if not mfus:
        return ""
    least, most = (f"{100 * mfu:.0f}" for mfu in (mfus[0], mfus[-1]))
    share = f"{most}%" if least == most else f"{least} to {most}%"
    return f" ({'an assumed ' if by == 'formula' else ''}{share} of the GPU's bf16 peak)"
