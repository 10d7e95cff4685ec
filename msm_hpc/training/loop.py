"""One optimizer step, on every rank: micro-batches through Megatron's schedule, then the update."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.flops import step_flops
from msm_hpc.training.data import Documents, MicroBatch, Rows, SampleOrder, micro_batch
from msm_hpc.training.megatron.optimizer import Trainable
from msm_hpc.training.megatron.zigzag import RowShape
from msm_hpc.training.record.metrics import StepMetrics
from msm_hpc.training.watch.spikes import WINDOW, culprits, is_spike, log_samples, micro_batch_losses

_DIVERGED = (
    "training diverged or its weights or data are damaged; try a smaller learning_rate or a larger warmup_fraction"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """Where micro-batches come from."""

    plan: Rows
    shards: Mapping[str, Documents]
    order: SampleOrder
    model: Transformer
    shape: RowShape

    def read(self, step: int, size: int) -> list[MicroBatch]:
        """The micro-batches of this rank in step ``step`` (from 0).

        Ranks of one model replica read the same rows; context-parallel ones keep a part of their tokens each.
        """
        device = torch.cuda.current_device()
        rank, ranks = parallel_state.get_context_parallel_rank(), parallel_state.get_context_parallel_world_size()
        return [
            micro_batch(self.plan, self.shards, rows, self.shape).part(rank, ranks).to(device)
            for rows in self._rows(step, size)
        ]

    def samples(self, step: int, size: int) -> list[tuple[str, ...]]:
        """What :meth:`read` is made of: for each micro-batch its documents, as ``shard#document``."""
        return [
            tuple(f"{piece.shard}#{piece.document}" for row in part for piece in self.plan.row(row))
            for part in self._rows(step, size)
        ]

    def _rows(self, step: int, size: int) -> list[list[int]]:
        rank = parallel_state.get_data_parallel_rank()
        ranks = parallel_state.get_data_parallel_world_size()
        return self.order.micro_batches(step, size, rank, ranks)


def train_step(
    trainable: Trainable, data: Data, config: TrainConfig, step: int, history: Sequence[float] = ()
) -> StepMetrics:
    """Do step ``step`` (counted from 0); every rank gets the same metrics.

    A loss that is not finite, or a spike after the losses of ``history``, stops the run or, if the config says so,
    leaves this update out.

    The loss is the sum over trainable tokens divided by their number in the whole global batch, so neither it nor the
    gradient depends on how the batch is cut into micro-batches and ranks.

    Raises:
        UserError: the loss or the gradient is not finite, or the loss is a spike; names step, rank and samples. The
            weights of the last good step are not saved over.
    """
    begin = time.perf_counter()
    batches = data.read(step, config.micro_batch_size)
    for chunk in trainable.wrapped:
        chunk.zero_grad_buffer()
    trainable.optimizer.zero_grad()
    losses = through_model(trainable, batches, forward_step, config.micro_batch_size * data.shape.width)
    loss_sum, tokens, targets, pairs = _over_ranks(losses, batches)
    loss = loss_sum / max(targets, 1.0)
    trainable.schedule.step(1)
    rate: float = trainable.schedule.get_lr({})

    def trouble(what: str) -> str:
        own = [float(batch.loss_mask.sum()) for batch in batches]
        found = micro_batch_losses(losses, own, data.samples(step, config.micro_batch_size))
        log_samples(step + 1, found)
        return f"{what} at optimizer step {step + 1} (learning rate {rate:g}); {culprits(found)}"

    skipped = _leave_out(loss, history, config, trouble)
    grad_norm = 0.0 if skipped else _update(trainable, trouble)
    torch.cuda.synchronize()  # the GPU is still at the update, which belongs to this step's time
    return StepMetrics(
        step=step + 1,
        loss=loss,
        grad_norm=grad_norm,
        learning_rate=rate,
        tokens=int(tokens),
        trainable_tokens=int(targets),
        rows=(step + 1) * config.global_batch_size,
        flops=step_flops(data.model, int(tokens), int(pairs), config.lora),
        seconds=time.perf_counter() - begin,
        skipped=skipped,
    )


def _update(trainable: Trainable, trouble: Callable[[str], str]) -> float:
    """Update the weights; gives the norm of the gradient before clipping, and raises where it is not finite."""
    _, grad_norm, _ = trainable.optimizer.step()
    if not math.isfinite(grad_norm):
        what = f"gradient norm, summed before its rank could be known, is {grad_norm}"
        raise UserError(f"{trouble(what)} (the largest loss); {_DIVERGED}")
    return float(grad_norm)


def through_model(
    trainable: Trainable,
    batches: Sequence[MicroBatch],
    step: Callable[[Iterator[MicroBatch], DistributedDataParallel], tuple[Tensor, Any]],
    tokens: int,
    forward_only: bool = False,
) -> list[Tensor]:
    """Run Megatron's schedule over ``batches``, of ``tokens`` tokens each over all context-parallel ranks.

    Returns:
        What ``step`` reports of each on the last pipeline stage; nothing on others.
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
    """Megatron's ``forward_step_func``: the output of this pipeline stage and, for the last one, how to get a loss."""
    batch = next(batches)
    return token_losses(model, batch), partial(_loss, batch)


def token_losses(model: torch.nn.Module, batch: MicroBatch) -> Tensor:
    """Cross-entropy at each position, [1, tokens of this rank], on the last pipeline stage; activations on others."""
    # Transformer Engine asks for these under context parallelism; our padding belongs to the documents.
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
    """The sum over trainable tokens, their number (Megatron divides by its global sum), and what to report."""
    total = (losses.float() * batch.loss_mask).sum()
    return total, batch.loss_mask.sum().to(torch.int), total.detach().double()


def _over_ranks(losses: list[Tensor], batches: list[MicroBatch]) -> tuple[float, float, float, float]:
    """Sums over the global batch: of the loss (the last pipeline stage's), of tokens, trainable tokens and pairs."""
    # What context-parallel ranks have in common is counted by the first of them.
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
    loss, tokens, targets, pairs = total.tolist()
    return loss, tokens, targets, pairs


def _leave_out(loss: float, history: Sequence[float], config: TrainConfig, trouble: Callable[[str], str]) -> bool:
    """Whether the update of a step with this loss is left out; raises where the run is to stop."""
    finite = math.isfinite(loss)
    if finite and not is_spike(loss, history):
        return False
    if config.skip_spikes:
        log.error("%s: this update is left out", trouble(f"loss is {loss:.4g}"))
        return True
    if not finite:
        raise UserError(f"{trouble(f'loss is {loss}')}; {_DIVERGED}")
    if config.stop_on_spike:
        usual = fmean(history[-WINDOW:])
        raise UserError(
            f"{trouble(f'loss jumped to {loss:.4g} from {usual:.4g}, the mean of {WINDOW} optimizer steps,')}; set "
            "stop_on_spike=false to go on from the last resume point, or skip_spikes=true to train anew and leave such "
            "updates out"
        )
    log.warning("%s: going on, as stop_on_spike=false says", trouble(f"loss jumped to {loss:.4g}"))
    return False
