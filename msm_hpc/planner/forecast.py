"""Forecast of a training's time: its model FLOPs over the peak of its GPUs and the share of that it reaches (MFU).

The time of a step is what finished trainings below the root took, of the same model, batch and layout on the same GPUs;
else what ``msm probe`` measured for this model, sequence length, GPU and layout; else it follows from an assumed MFU.
H100 at 8,192 tokens in bf16: Megatron-LM reports 41% (2B) to 48% (462B) on up to 6,144 GPUs (its README), NVIDIA's
NeMo 59% on one node for Llama-3.1-8B (dgxc-benchmarking, ``README_8b.md``), torchtitan 33 to 39% (its
``llama3_h100_202412``). FP8 gave 1.33 times the tokens of bf16 in the second. We assume the low end, and the same share
of the *bf16* peak in FP8: a forecast that is too long costs less than a job that is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, prod
from typing import Literal, NamedTuple

from msm_hpc.config.cluster import Gpu
from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.flops import recomputed_flops, step_flops
from msm_hpc.model.gpus import GPUS

ASSUMED_MFU = 0.35
TENSOR_LOSS, CONTEXT_LOSS, PIPELINE_LOSS, CHUNK_LOSS = 0.04, 0.05, 0.04, 0.01
"""Assumed loss of speed with each doubling of tensor, context and pipeline parallelism and of model chunks."""


Source = Literal["own trainings", "probe", "formula"]


class Measured(NamedTuple):
    """The seconds of a step, and where they were measured."""

    seconds: float
    by: Source


@dataclass(frozen=True)
class Forecast:
    """The time of a step, and what it is from; ``mfu`` is of the dense bf16 peak, None without GPUs."""

    seconds_per_step: float
    mfu: float | None
    by: Source


def forecast(config: TrainConfig, model: Transformer, gpu: Gpu | None, measured: Measured | None = None) -> Forecast:
    """Forecast one optimizer step of full rows that are one document each.

    Args:
        config: the training.
        model: its shape.
        gpu: what it runs on; None, of CPUs, only where it was measured.
        measured: what a step of such a training took.
    """
    ideal = _flops(config, model)[0] / (GPUS[gpu].peak * config.layout.world_size) if gpu else None
    if measured is not None:
        return Forecast(measured.seconds, ideal / measured.seconds if ideal else None, measured.by)
    assert ideal is not None
    mfu = ASSUMED_MFU * efficiency(config, model)
    return Forecast(ideal / mfu, mfu, "formula")


def efficiency(config: TrainConfig, model: Transformer) -> float:
    """The share of one GPU's speed that a layout keeps, by rule of thumb, to rank layouts; 1 of a rank alone.

    A pipeline of ``p`` stages idles for ``(p - 1) / (m v)`` of the time of its ``m`` micro-batches, in ``v`` chunks
    (Narayanan et al., arXiv 2104.04473, section 2.2). What is computed again takes its share of the time.
    """
    layout = config.layout
    micro_batches = config.global_batch_size // (config.micro_batch_size * layout.data_parallel)
    bubble = (layout.pipeline_parallel - 1) / (micro_batches * layout.virtual_pipeline)
    losses = (
        (layout.tensor_parallel, TENSOR_LOSS),
        (layout.context_parallel, CONTEXT_LOSS),
        (layout.pipeline_parallel, PIPELINE_LOSS),
        (layout.virtual_pipeline, CHUNK_LOSS),
    )
    useful, again = _flops(config, model)
    return prod(1 - loss * log2(parts) for parts, loss in losses) / (1 + bubble) * useful / (useful + again)


def _flops(config: TrainConfig, model: Transformer) -> tuple[int, int]:
    """Model FLOPs of a step of full rows that are one document each, and those of recomputation."""
    tokens = config.global_batch_size * config.sequence_length
    pairs = tokens * config.sequence_length
    again = recomputed_flops(model, tokens, pairs, config.layout.recompute)
    return step_flops(model, tokens, pairs, config.lora), again
