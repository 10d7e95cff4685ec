"""What a training run tells: log lines while it runs, ``summary.json`` at its end."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from msm_hpc.config import Layout, Precision, TrainConfig
from msm_hpc.training.architecture import Llama
from msm_hpc.training.data import SampleOrder
from msm_hpc.training.metrics import StepMetrics

FEW_STEPS = 100
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """``summary.json``: the whole run.

    Tokens leave padding out; ``filled_rows`` are rows of one epoch more that completed the last global batch;
    ``seconds`` adds up the steps that count, over all resumes.
    """

    steps: int
    tokens: int
    trainable_tokens: int
    filled_rows: int
    first_loss: float
    final_loss: float
    seconds: float
    tokens_per_second: float
    world_size: int
    layout: Layout
    parameters: int
    precision: Precision


def announce(config: TrainConfig, model: Llama, order: SampleOrder, done: int) -> None:
    """Log what begins, and warn where it is too short to matter."""
    steps = order.steps
    log.info(
        "training %.2fM parameters for %d steps of %d rows x %d tokens, %s, on %d rank(s)%s",
        model.parameters / 1e6,
        steps,
        config.global_batch_size,
        config.sequence_length,
        config.precision,
        config.layout.world_size,
        f", resumed after step {done}" if done else "",
    )
    if steps < FEW_STEPS:
        log.warning(
            "ONLY %d OPTIMIZER STEPS: %d rows x %d epochs / global_batch_size %d. Fewer than %d rarely teach a model "
            "anything; give more data or epochs, or a smaller global_batch_size.",
            steps,
            order.rows,
            config.epochs,
            config.global_batch_size,
            FEW_STEPS,
        )


def log_step(recent: list[StepMetrics], steps: int) -> None:
    """Log the last of ``recent``, with the speed over all of them; ``steps`` is where the run ends."""
    now = recent[-1]
    seconds = sum(each.seconds for each in recent)
    log.info(
        "step %d/%d  loss %.4f  grad norm %.3f  lr %.3g  %.0f tokens/s  ETA %s",
        now.step,
        steps,
        now.loss,
        now.grad_norm,
        now.learning_rate,
        sum(each.tokens for each in recent) / seconds,
        timedelta(seconds=round((steps - now.step) * seconds / len(recent))),
    )


def summarise(config: TrainConfig, model: Llama, order: SampleOrder, steps: list[StepMetrics]) -> Summary:
    """Add up all steps of a run."""
    tokens = sum(each.tokens for each in steps)
    seconds = sum(each.seconds for each in steps)
    return Summary(
        steps=len(steps),
        tokens=tokens,
        trainable_tokens=sum(each.trainable_tokens for each in steps),
        filled_rows=order.filled,
        first_loss=steps[0].loss,
        final_loss=steps[-1].loss,
        seconds=seconds,
        tokens_per_second=tokens / seconds,
        world_size=config.layout.world_size,
        layout=config.layout,
        parameters=model.parameters,
        precision=config.precision,
    )
