"""Plain torch in the place of functions of Megatron that are written for GPUs and many ranks, on a CPU.

A step of a small model is mostly overhead there: Python between the operations. These compute the same bits with
less of it.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from msm_hpc.training.megatron import private


def linear(states: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """``states @ weight.T``, with a gradient in C++ where nothing is exchanged, fused or postponed.

    Otherwise, and with a bias, whose gradient Megatron adds up in another order, it is Megatron's own.
    """
    alone = not (options["allreduce_dgrad"] or options["sequence_parallel"])
    if alone and bias is None and not options["gradient_accumulation_fusion"] and options["grad_output_buffer"] is None:
        return torch.matmul(states, weight.t())
    product: Tensor = private.linear(states, weight, bias, **options)
    return product


vars(linear).update(vars(private.linear))  # Megatron's own looks under its name for an attribute that it has


def largest_logits(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The logits in float32 and the largest of each token, without asking where it is."""
    logits = logits.float()
    return logits, logits.amax(dim=-1)


def norm(chunk: int, overflow: Tensor, tensors: list[list[Tensor]], *per_tensor: bool) -> tuple[Tensor, None]:
    """The norm of all ``tensors`` together, [1]."""
    norms = torch.stack(torch._foreach_norm(tensors[0]))
    return torch.linalg.vector_norm(norms).unsqueeze(0), None


def scale(chunk: int, overflow: Tensor, tensors: list[list[Tensor]], factor: float) -> None:
    """Scale ``tensors``, listed as what is read and again as what is written."""
    read, written = tensors
    assert read is written, "only in place"
    torch._foreach_mul_(written, factor)


def local_part(gradient: Tensor) -> Tensor:
    """``gradient`` itself: ours are never torch's distributed tensors."""
    return gradient


def reset_nothing(config: TransformerConfig, model: list[torch.nn.Module]) -> None:
    """Our models have no experts."""
    assert config.num_moe_experts is None
