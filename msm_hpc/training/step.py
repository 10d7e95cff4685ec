"""One optimizer step, on every rank: micro-batches through Megatron's schedule, then the update."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor, distributed

from msm_hpc.base.errors import DivergedError, UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.model.flops import step_flops
from msm_hpc.training.data.batch import MicroBatch
from msm_hpc.training.data.reader import BatchReader
from msm_hpc.training.megatron import private
from msm_hpc.training.megatron.optimizer import Trainable
from msm_hpc.training.record.metrics import StepMetrics
from msm_hpc.training.watch.spikes import WINDOW, culprits, is_spike, log_samples, micro_batch_losses

_DIVERGED = (
    "training diverged or its weights or data are damaged; try a smaller learning_rate or a larger warmup_fraction"
)
log = logging.getLogger(__name__)


def train_step(
    trainable: Trainable, data: BatchReader, config: TrainConfig, step: int, history: Sequence[float] = ()
) -> StepMetrics:
    """Do step ``step`` (counted from 0); every rank returns the same metrics.

    A loss that is not finite, or that is a spike after the losses of ``history``, stops the run or, if the config says
    so, skips this update.

    The loss is the sum over trainable tokens divided by their number in the whole global batch, so neither it nor the
    gradient depends on how the batch is cut into micro-batches and ranks.

    Raises:
        UserError: the loss or the gradient is not finite, or the loss is a spike; names step, rank and samples.
    """
    begin = time.perf_counter()
    batches = data.read(step, config.micro_batch_size)
    losses = _gradients(trainable, batches, config.micro_batch_size * data.shape.width)
    sums = _over_ranks(losses, batches)
    loss = sums.loss / max(sums.targets, 1.0)
    rate = _next_rate(trainable)
    trouble = _Trouble(step, rate, batches, losses, partial(data.samples, step, config.micro_batch_size))
    skipped = _skips(loss, history, config, trouble)
    grad_norm = 0.0 if skipped else _update(trainable, trouble)
    torch.cuda.synchronize()  # the update is still running on the GPU, and belongs to this step's time
    return StepMetrics(
        step=step + 1,
        loss=loss,
        grad_norm=grad_norm,
        learning_rate=rate,
        tokens=int(sums.tokens),
        trainable_tokens=int(sums.targets),
        rows=(step + 1) * config.global_batch_size,
        flops=step_flops(data.model, int(sums.tokens), int(sums.pairs), config.lora),
        seconds=time.perf_counter() - begin,
        skipped=skipped,
    )


@dataclass(frozen=True)
class _Sums:
    """Sums over the global batch: of the loss, of tokens, trainable tokens and pairs that attend to each other."""

    loss: float
    tokens: float
    targets: float
    pairs: float


@dataclass(frozen=True)
class _Trouble:
    """Says what is wrong with optimizer step ``step`` (counted from 0), and names the samples of its largest loss."""

    step: int
    rate: float
    batches: Sequence[MicroBatch]
    losses: Sequence[Tensor]
    samples: Callable[[], Sequence[tuple[str, ...]]]

    def __call__(self, what: str) -> str:
        own = [float(batch.loss_mask.sum()) for batch in self.batches]
        found = micro_batch_losses(self.losses, own, self.samples())
        log_samples(self.step + 1, found)
        return f"{what} at optimizer step {self.step + 1} (learning rate {self.rate:g}); {culprits(found)}"


def _gradients(trainable: Trainable, batches: Sequence[MicroBatch], tokens: int) -> list[Tensor]:
    """Set the gradients to those of ``batches``; returns the loss of each, on the last pipeline stage."""
    for chunk in trainable.wrapped:
        chunk.zero_grad_buffer()
    trainable.optimizer.zero_grad()
    return through_model(trainable, batches, forward_step, tokens)


def _next_rate(trainable: Trainable) -> float:
    """Set the learning rate of the next update, and return it."""
    trainable.schedule.step(1)
    rate: float = trainable.schedule.get_lr({})
    return rate


def _update(trainable: Trainable, trouble: Callable[[str], str]) -> float:
    """Update the weights and return the gradient's norm before clipping.

    Raises:
        DivergedError: the norm is not finite.
    """
    grad_norm = private.update(trainable.optimizer)
    if not math.isfinite(grad_norm):
        raise DivergedError(
            f"{trouble(f'gradient norm is {grad_norm}')} (the norm is all-reduced, so its rank is unknown: these are "
            f"the samples of the largest loss); {_DIVERGED}"
        )
    return grad_norm


def through_model(
    trainable: Trainable,
    batches: Sequence[MicroBatch],
    step: Callable[[Iterator[MicroBatch], DistributedDataParallel], tuple[Tensor, Any]],
    tokens: int,
    forward_only: bool = False,
) -> list[Tensor]:
    """Run Megatron's schedule over ``batches``, of ``tokens`` tokens each over all context-parallel ranks.

    Returns:
        What ``step`` reports of each micro-batch, on the last pipeline stage; an empty list on the others.
    """
    reported: list[Tensor] = get_forward_backward_func()(
        forward_step_func=step,
        data_iterator=[iter(batches) for _ in trainable.wrapped],
        model=list(trainable.wrapped),
        num_microbatches=len(batches),
        seq_length=tokens,
        micro_batch_size=1,
        forward_only=forward_only,
    )
    return reported


def forward_step(
    batches: Iterator[MicroBatch], model: DistributedDataParallel
) -> tuple[Tensor, partial[tuple[Tensor, Tensor, Tensor]]]:
    """Megatron's ``forward_step_func``: the output of this pipeline stage, and the loss function for the last one."""
    batch = next(batches)
    return token_losses(model, batch), partial(_loss, batch)


def token_losses(model: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """Cross-entropy at each position, [1, tokens of this rank], on the last pipeline stage; activations on others."""
    # Required by Transformer Engine under context parallelism; our padding belongs to the documents.
    padded = batch.boundaries if parallel_state.get_context_parallel_world_size() > 1 else None
    packed = PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=batch.boundaries,
        cu_seqlens_kv=batch.boundaries,
        cu_seqlens_q_padded=padded,
        cu_seqlens_kv_padded=padded,
        max_seqlen_q=batch.longest,
        max_seqlen_kv=batch.longest,
    )
    output: Tensor = model(batch.tokens, None, None, labels=batch.labels, packed_seq_params=packed)
    return output


def _loss(batch: MicroBatch, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum over trainable tokens, their number (Megatron divides by its sum over ranks), and what to report."""
    total = (losses.float() * batch.loss_mask).sum()
    return total, batch.loss_mask.sum().to(torch.int), total.detach().double()


def _over_ranks(losses: Sequence[Tensor], batches: Sequence[MicroBatch]) -> _Sums:
    """Add up over all ranks; the loss is the last pipeline stage's."""
    # Context-parallel ranks hold the same batch: only the first of them counts its tokens and pairs.
    first = parallel_state.get_context_parallel_rank() == 0
    mine = [
        sum(float(loss) for loss in losses),
        first * sum(batch.real_tokens for batch in batches),
        sum(float(batch.loss_mask.sum()) for batch in batches),
        first * sum(batch.pairs for batch in batches),
    ]
    total = torch.tensor(mine, dtype=torch.float64, device=torch.cuda.current_device())
    distributed.all_reduce(total, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
    last = parallel_state.get_pipeline_model_parallel_last_rank()
    own = total.clone()
    distributed.broadcast(total, src=last, group=parallel_state.get_pipeline_model_parallel_group())
    assert torch.equal(own[1:], total[1:]), f"this pipeline stage read {own[1:]}, the last one {total[1:]}"
    return _Sums(*total.tolist())


def _skips(loss: float, history: Sequence[float], config: TrainConfig, trouble: Callable[[str], str]) -> bool:
    """Whether a step with this loss skips its update; raises where the run is to stop."""
    finite = math.isfinite(loss)
    if finite and not is_spike(loss, history):
        return False
    if config.skip_spikes:
        log.error("%s: this update is skipped", trouble(f"loss is {loss:.4g}"))
        return True
    if not finite:
        raise DivergedError(f"{trouble(f'loss is {loss}')}; {_DIVERGED}")
    if config.stop_on_spike:
        usual = fmean(history[-WINDOW:])
        raise UserError(
            f"{trouble(f'loss jumped to {loss:.4g} from {usual:.4g}, the mean of {WINDOW} optimizer steps,')}; set "
            "stop_on_spike=false to resume from the last resume checkpoint, or skip_spikes=true to train again from "
            "the start and skip such updates"
        )
    log.warning("%s: training continues, since stop_on_spike=false", trouble(f"loss jumped to {loss:.4g}"))
    return False
