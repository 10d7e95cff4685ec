"""Megatron's data-parallel wrapper, distributed AdamW and schedule, from a training config."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import (
    MegatronOptimizer,
    OptimizerConfig,
    get_megatron_optimizer,
    get_standard_config_overrides,
)
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from megatron.core.transformer.module import Float16Module

from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.adapter import Note
from msm_hpc.training.megatron import private
from msm_hpc.training.megatron.adam import FusedAdam


@dataclass(frozen=True)
class Trainable:
    """A model with its optimizer and schedule, ready to be trained.

    ``chunks`` are this rank's parts of the model, one for each virtual pipeline stage; ``wrapped`` are the same in
    Megatron's data-parallel wrapper. ``layout`` is how the ranks are arranged, ``adapter`` what is noted of the adapter
    where that alone is trained.
    """

    chunks: tuple[GPTModel, ...]
    wrapped: tuple[DistributedDataParallel, ...]
    optimizer: MegatronOptimizer
    schedule: OptimizerParamScheduler
    layout: Layout
    adapter: Note | None = None


def make_trainable(
    chunks: tuple[GPTModel, ...], config: TrainConfig, steps: int, adapter: Note | None = None
) -> Trainable:
    """Wrap ``chunks``, whose weights are set, for a run of ``steps`` optimizer steps.

    The distributed optimizer (each data-parallel rank updates its part of the weights) is on at any size, so that one
    checkpoint format serves every layout. Norms are not decayed.
    """
    private.use_adam(FusedAdam)
    megatron = chunks[0].config
    wrapped = tuple(_data_parallel(chunk, number) for number, chunk in enumerate(chunks))
    settings = OptimizerConfig(
        optimizer="adam",
        lr=config.learning_rate,
        min_lr=config.min_learning_rate,
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        adam_eps=config.adam_eps,
        clip_grad=config.clip_grad,
        bf16=megatron.bf16,
        params_dtype=megatron.params_dtype,
        fp8_recipe=megatron.fp8_recipe,
        use_distributed_optimizer=True,
    )
    optimizer = get_megatron_optimizer(settings, list(wrapped), get_standard_config_overrides(settings))
    megatron.finalize_model_grads_func = finalize_model_grads
    megatron.grad_scale_func = optimizer.scale_loss
    if overlaps():
        # After megatron/training/training.py: no reduction before the last micro-batch, and then, in a pipeline, in its
        # bubble. Weights need no param_sync_func: each bucket's are gathered by a hook before it is used.
        no_sync, sync = [chunk.no_sync for chunk in wrapped], [chunk.start_grad_sync for chunk in wrapped]
        several = len(wrapped) > 1
        megatron.no_sync_func, megatron.grad_sync_func = (no_sync, sync) if several else (no_sync[0], sync[0])
    return Trainable(chunks, wrapped, optimizer, _schedule(optimizer, config, steps), config.layout, adapter)


def overlaps() -> bool:
    """Whether data-parallel ranks exchange gradients and weights while they compute; with gloo it saves no time.

    Tests turn it on to run the same code on a CPU; it has not been run on a GPU.
    """
    return torch.cuda.is_available()


def gather_weights(trainable: Trainable) -> None:
    """Gather the weights of the last update on every rank, before they are saved; every rank must call this.

    Where communication overlaps with computation, a rank has only those that it updated until the next forward pass.
    """
    for chunk in trainable.wrapped:
        if chunk.ddp_config.overlap_param_gather:
            chunk.start_param_sync(force_sync=True)


def _data_parallel(chunk: GPTModel, number: int) -> DistributedDataParallel:
    settings = DistributedDataParallelConfig(
        grad_reduce_in_fp32=True,
        use_distributed_optimizer=True,
        overlap_grad_reduce=overlaps(),
        overlap_param_gather=overlaps(),
    )
    return DistributedDataParallel(
        config=chunk.config,
        ddp_config=settings,
        module=Float16Module(chunk.config, chunk) if chunk.config.bf16 else chunk,
        # The reduction of later chunks hides behind the work of the others even as one bucket (megatron/training).
        disable_bucketing=number > 0,
    )


def _schedule(optimizer: MegatronOptimizer, config: TrainConfig, steps: int) -> OptimizerParamScheduler:
    """Linear warm-up, then cosine to ``min_learning_rate``; step ``k`` of ``steps``, from 1, takes the value at ``k``.

    It would be 0 at step 0 and ``min_learning_rate`` (0, if not set) at step ``steps + 1``: no step has a zero learning
    rate.
    """
    return OptimizerParamScheduler(
        optimizer,
        init_lr=0.0,
        max_lr=config.learning_rate,
        min_lr=config.min_learning_rate,
        lr_warmup_steps=int(config.warmup_fraction * steps),
        lr_decay_steps=steps + 1,
        lr_decay_style="cosine",
        start_wd=config.weight_decay,
        end_wd=config.weight_decay,
        wd_incr_steps=0,
        wd_incr_style="constant",
    )
