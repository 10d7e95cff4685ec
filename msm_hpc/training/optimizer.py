"""Megatron's data-parallel wrapper, distributed AdamW and schedule, from a :class:`~msm_hpc.config.TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass

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

from msm_hpc.config import TrainConfig
from msm_hpc.training import adam


@dataclass(frozen=True)
class Trainable:
    """A model ready to be trained.

    ``model`` is this rank's part, ``wrapped`` the same within Megatron's data-parallel wrapper.
    """

    model: GPTModel
    wrapped: DistributedDataParallel
    optimizer: MegatronOptimizer
    schedule: OptimizerParamScheduler


def make_trainable(model: GPTModel, config: TrainConfig, steps: int) -> Trainable:
    """Wrap ``model``, whose weights are set, for a run of ``steps`` optimizer steps.

    The distributed optimizer (each data-parallel rank updates its part of the weights) is on at any size, so that one
    checkpoint format serves every layout. Norms are not decayed.
    """
    adam.install()
    megatron = model.config
    whole = Float16Module(megatron, model) if megatron.bf16 else model
    wrapped = DistributedDataParallel(
        config=megatron,
        ddp_config=DistributedDataParallelConfig(grad_reduce_in_fp32=True, use_distributed_optimizer=True),
        module=whole,
    )
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
    optimizer = get_megatron_optimizer(settings, [wrapped], get_standard_config_overrides(settings))
    megatron.finalize_model_grads_func = finalize_model_grads
    megatron.grad_scale_func = optimizer.scale_loss
    return Trainable(model, wrapped, optimizer, _schedule(optimizer, config, steps))


def _schedule(optimizer: MegatronOptimizer, config: TrainConfig, steps: int) -> OptimizerParamScheduler:
    """Linear warm-up, then cosine to ``min_learning_rate``; step ``k`` of ``steps``, from 1, takes the value at ``k``.

    It would be 0 at step 0 and ``min_learning_rate`` (0, if not set) at step ``steps + 1``: no step trains nothing.
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
