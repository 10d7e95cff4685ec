"""One optimizer step, on every rank: micro-batches through Megatron's schedule, then the update."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor, distributed

from msm_hpc.config import TrainConfig
from msm_hpc.errors import UserError
from msm_hpc.training.data import Documents, MicroBatch, Rows, SampleOrder, micro_batch
from msm_hpc.training.metrics import StepMetrics
from msm_hpc.training.optimizer import Trainable


@dataclass(frozen=True)
class Data:
    """Where micro-batches come from."""

    plan: Rows
    shards: Mapping[str, Documents]
    order: SampleOrder

    def read(self, step: int, size: int) -> list[MicroBatch]:
        """The micro-batches of this rank in step ``step`` (from 0); ranks of one model replica read the same."""
        rank = parallel_state.get_data_parallel_rank()
        ranks = parallel_state.get_data_parallel_world_size()
        device = torch.cuda.current_device()
        rows = self.order.micro_batches(step, size, rank, ranks)
        return [micro_batch(self.plan, self.shards, part).to(device) for part in rows]


def train_step(trainable: Trainable, data: Data, config: TrainConfig, step: int) -> StepMetrics:
    """Do step ``step`` (counted from 0); every rank gets the same metrics.

    The loss is the sum over trainable tokens divided by their number in the whole global batch, so neither it nor the
    gradient depends on how the batch is cut into micro-batches and ranks.

    Raises:
        UserError: the loss or the gradient is not finite; the weights of the last good step are not saved over.
    """
    begin = time.perf_counter()
    batches = data.read(step, config.micro_batch_size)
    trainable.wrapped.zero_grad_buffer()
    trainable.optimizer.zero_grad()
    losses: list[Tensor] = get_forward_backward_func()(
        forward_step_func=forward_step,
        data_iterator=iter(batches),
        model=trainable.wrapped,
        num_microbatches=len(batches),
        seq_length=config.micro_batch_size * config.sequence_length,
        micro_batch_size=1,
        forward_only=False,
    )
    loss_sum, tokens, targets = _over_ranks(losses, batches)
    loss = loss_sum / max(targets, 1.0)
    trainable.schedule.step(1)
    rate: float = trainable.schedule.get_lr({})
    _check_finite("loss", loss, step, rate)
    _, grad_norm, _ = trainable.optimizer.step()
    _check_finite("gradient norm", grad_norm, step, rate)
    seconds = time.perf_counter() - begin
    return StepMetrics(step + 1, loss, float(grad_norm), rate, int(tokens), int(targets), seconds)


def forward_step(
    batches: Iterator[MicroBatch], model: DistributedDataParallel
) -> tuple[Tensor, partial[tuple[Tensor, Tensor, Tensor]]]:
    """Megatron's ``forward_step_func``: the output of this pipeline stage and, for the last one, how to get a loss."""
    batch = next(batches)
    return token_losses(model, batch), partial(_loss, batch)


def token_losses(model: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """Cross-entropy at each position, [1, tokens], on the last pipeline stage; activations on the others."""
    packed = PackedSeqParams(
        qkv_format="thd",
        cu_seqlens_q=batch.boundaries,
        cu_seqlens_kv=batch.boundaries,
        max_seqlen_q=batch.longest,
        max_seqlen_kv=batch.longest,
    )
    output: Tensor = model(batch.tokens, None, None, labels=batch.labels, packed_seq_params=packed)
    return output


def _loss(batch: MicroBatch, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sum over trainable tokens, their number (Megatron divides by its global sum), and what to report."""
    total = (losses.float() * batch.loss_mask).sum()
    return total, batch.loss_mask.sum().to(torch.int), total.detach().double()


def _over_ranks(losses: list[Tensor], batches: list[MicroBatch]) -> tuple[float, float, float]:
    """Sums over the global batch: of the loss (known to the last pipeline stage), of tokens and of trainable tokens."""
    mine = [
        sum(float(loss) for loss in losses),
        sum(batch.real_tokens for batch in batches),
        sum(float(batch.loss_mask.sum()) for batch in batches),
    ]
    total = torch.tensor(mine, dtype=torch.float64, device=torch.cuda.current_device())
    distributed.all_reduce(total, group=parallel_state.get_data_parallel_group())
    last = parallel_state.get_pipeline_model_parallel_last_rank()
    distributed.broadcast(total, src=last, group=parallel_state.get_pipeline_model_parallel_group())
    loss, tokens, targets = total.tolist()
    return loss, tokens, targets


def _check_finite(what: str, value: float, step: int, rate: float) -> None:
    if not math.isfinite(value):
        raise UserError(
            f"{what} is {value} at step {step + 1} (learning rate {rate:g}): training diverged or its weights or data "
            "are damaged; try a smaller learning_rate or a larger warmup_fraction"
        )
