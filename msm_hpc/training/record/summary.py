"""The log lines of a training run, and ``summary.json`` at its end."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from msm_hpc.config.training import Layout, Precision, TrainConfig
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.gpus import peak_flops
from msm_hpc.training.data.order import SampleOrder
from msm_hpc.training.megatron.device import device_name
from msm_hpc.training.record.metrics import FEW_STEPS, FieldLoss, StepMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """``summary.json``: the whole run.

    Tokens leave padding out; ``filled_rows`` are rows of one more epoch that completed the last global batch;
    ``seconds`` is the sum over the steps of the result, across all resumes, and ``seconds_of_last_attempt`` what the
    attempt that finished it took for loading, its own steps, held-out losses and saving. ``flops`` follow
    :mod:`msm_hpc.model.flops`; ``peak_memory`` is in bytes, of the rank that held the most; ``warning`` says why the
    result may mean little.
    """

    steps: int
    tokens: int
    trainable_tokens: int
    filled_rows: int
    first_loss: float
    final_loss: float
    seconds: float
    seconds_of_last_attempt: Mapping[str, float]
    tokens_per_second: float
    world_size: int
    layout: Layout
    parameters: int
    trained_parameters: int
    precision: Precision
    fp8_emulated: bool
    flops: int
    tflops_per_second_per_rank: float
    device: str
    peak_memory: int
    skipped_steps: tuple[int, ...]
    warning: str | None


def announce(config: TrainConfig, model: Transformer, order: SampleOrder, done: int) -> None:
    """Log the run that begins, and warn if it is too short to matter."""
    steps = order.steps
    log.info(
        "training %.2fM parameters for %d optimizer steps of %d rows x %d tokens, %s, on %d rank(s)%s",
        model.parameters / 1e6,
        steps,
        config.global_batch_size,
        config.sequence_length,
        f"{config.precision}, emulated on the CPU" if config.fp8_emulated else config.precision,
        config.layout.world_size,
        f", resumed after optimizer step {done}" if done else "",
    )
    if warning := few_steps(order):
        log.warning(warning)


def few_steps(order: SampleOrder) -> str | None:
    """A warning if there are fewer than :data:`FEW_STEPS` steps: then "no effect" is no finding."""
    if order.steps >= FEW_STEPS:
        return None
    return (
        f"ONLY {order.steps} OPTIMIZER STEPS: {order.rows} rows x {order.epochs} epochs / global_batch_size "
        f"{order.global_batch_size}. Fewer than {FEW_STEPS} rarely teach a model anything; give more data or epochs, "
        "or a smaller global_batch_size."
    )


def log_step(recent: list[StepMetrics], order: SampleOrder, config: TrainConfig) -> None:
    """Log the last of ``recent``, with the speed over all of them."""
    now, steps = recent[-1], order.steps
    seconds = sum(each.seconds for each in recent)
    ranks = config.layout.world_size
    tokens = sum(each.tokens for each in recent) / seconds
    flops = sum(each.flops for each in recent) / seconds / ranks
    log.info(
        "optimizer step %d/%d  loss %.4f  grad norm %.3f  lr %.3g  %.0f tokens/s (%.0f a rank)  %.4g TFLOP/s a rank%s  "
        "peak memory %.2f GiB  rows %d (%.2f epochs)  ETA %s",
        now.step,
        steps,
        now.loss,
        now.grad_norm,
        now.learning_rate,
        tokens,
        tokens / ranks,
        flops / 1e12,
        utilisation(flops, device_name()),
        now.peak_memory / 2**30,
        now.rows,
        now.rows / order.rows,
        timedelta(seconds=round((steps - now.step) * seconds / len(recent))),
    )


def log_held_out(losses: list[FieldLoss]) -> None:
    """Log the held-out losses after one step: of all tokens, then of each value of each field."""
    whole, *rest = losses
    by_value = "".join(f"  {each.field}={each.value} {each.loss:.4f} ({each.tokens})" for each in rest)
    log.info(
        "held out, after optimizer step %d: loss %.4f (%d tokens)%s", whole.step, whole.loss, whole.tokens, by_value
    )


def utilisation(flops: float, device: str) -> str:
    """Model FLOPs utilisation (PaLM, appendix B) of a rank that does ``flops`` a second, as a part of a log line."""
    peak = peak_flops(device)
    if peak is None:
        return f"  (no MFU: the peak of {device} is not known)" if device != "CPU" else ""
    return f"  MFU {flops / peak:.1%} of {peak / 1e12:.0f} TFLOP/s ({device}, dense bf16)"


def summarise(
    config: TrainConfig,
    model: Transformer,
    order: SampleOrder,
    steps: list[StepMetrics],
    seconds_of_last_attempt: Mapping[str, float],
) -> Summary:
    """Add up all steps of a run."""
    tokens = sum(each.tokens for each in steps)
    seconds = sum(each.seconds for each in steps)
    flops = sum(each.flops for each in steps)
    return Summary(
        steps=len(steps),
        tokens=tokens,
        trainable_tokens=sum(each.trainable_tokens for each in steps),
        filled_rows=order.filled,
        first_loss=steps[0].loss,
        final_loss=steps[-1].loss,
        seconds=seconds,
        seconds_of_last_attempt=seconds_of_last_attempt,
        tokens_per_second=tokens / seconds,
        world_size=config.layout.world_size,
        layout=config.layout,
        parameters=model.parameters,
        trained_parameters=adapter.parameters(model, config.lora) if config.lora else model.parameters,
        precision=config.precision,
        fp8_emulated=config.fp8_emulated,
        flops=flops,
        tflops_per_second_per_rank=flops / seconds / config.layout.world_size / 1e12,
        device=device_name(),
        peak_memory=max(each.peak_memory for each in steps),
        skipped_steps=tuple(each.step for each in steps if each.skipped),
        warning=few_steps(order),
    )
