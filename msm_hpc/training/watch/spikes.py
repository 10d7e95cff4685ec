"""Losses that no run should train on from: not finite, or far above the last ones; and the samples they came from."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import torch
from megatron.core import parallel_state
from torch import Tensor, distributed

WINDOW = 50
DEVIATIONS = 10
RISE = 0.5
NAMED = 5

log = logging.getLogger(__name__)


def is_spike(loss: float, before: Sequence[float]) -> bool:
    """Whether a finite ``loss`` is far above the last :data:`WINDOW` losses of ``before``.

    That is, above their mean by more than 10 standard deviations and by more than half of the mean. The rule is ours,
    for the jumps described in PaLM's section 5.1 (arXiv 2204.02311). The first steps of a run are never a spike.
    """
    recent = before[-WINDOW:]
    if len(recent) < WINDOW:
        return False
    mean = fmean(recent)
    return loss - mean > RISE * mean and loss - mean > DEVIATIONS * stdev(recent)  # the exact stdev is slow


@dataclass(frozen=True)
class MicroBatchLoss:
    """The loss of one micro-batch, in nats a trainable token, and its ``samples``, as ``shard#document``."""

    rank: int
    number: int
    loss: float
    samples: tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.samples) - NAMED} more" if len(self.samples) > NAMED else ""
        return (
            f"rank {self.rank}, micro-batch {self.number}: loss {self.loss:.4g}, samples "
            f"{', '.join(self.samples[:NAMED])}{more}"
        )


def micro_batch_losses(
    losses: Sequence[Tensor], targets: Sequence[float], samples: Sequence[tuple[str, ...]]
) -> list[MicroBatchLoss]:
    """The micro-batches of the whole global batch, those with the largest loss first; every rank must call this.

    Args:
        losses: for each micro-batch, the sum over this rank's tokens; empty except on the last pipeline stage.
        targets: how many tokens each sum is over.
        samples: the documents of each.
    """
    sums = torch.tensor([[float(loss) for loss in losses], list(targets[: len(losses)])], dtype=torch.float64)
    sums = sums.to(torch.cuda.current_device())
    distributed.all_reduce(sums, group=parallel_state.get_context_parallel_group())
    own = []
    if parallel_state.get_tensor_model_parallel_rank() == parallel_state.get_context_parallel_rank() == 0:
        rank = distributed.get_rank()
        each = zip(*sums.tolist(), samples[: len(losses)], strict=True)
        own = [MicroBatchLoss(rank, n, loss / max(count, 1.0), ids) for n, (loss, count, ids) in enumerate(each)]
    found: list[list[MicroBatchLoss]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(found, own)
    everything = [each for of_rank in found for each in of_rank]
    return sorted(everything, key=lambda each: each.loss if math.isfinite(each.loss) else math.inf, reverse=True)


def log_samples(step: int, found: Sequence[MicroBatchLoss]) -> None:
    """Log every sample of a global batch with the loss of its micro-batch."""
    if distributed.get_rank() == 0:
        for each in found:
            samples = " ".join(each.samples)
            log.error(
                "optimizer step %d rank %d micro-batch %d loss %g: %s", step, each.rank, each.number, each.loss, samples
            )


def culprits(found: Sequence[MicroBatchLoss]) -> str:
    """The micro-batches whose own loss is not finite, or the one with the largest loss if all are finite."""
    broken = [each for each in found if not math.isfinite(each.loss)]
    return "; ".join(str(each) for each in (broken or found[:1])[:NAMED])
