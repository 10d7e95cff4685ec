"""Checks that FP8 and FP4 are really on, where Transformer Engine does them on a GPU.

Megatron silently leaves them out if a layer is not Transformer Engine's or its context is not entered. Written from the
sources of megatron-core 0.16.1 and Transformer Engine 2.11; the check of the context was run with Transformer Engine's
Python layer on a CPU, none of it on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from megatron.core.fp8_utils import TE_LINEAR_TYPES, is_first_last_bf16_layer
from megatron.core.models.gpt import GPTModel
from torch.utils.hooks import RemovableHandle


def require_quantised(model: GPTModel) -> None:
    """Have the first forward pass fail if a layer of ``model``, one of FP8 or FP4, would run without it.

    Raises:
        AssertionError: now, a layer has projections that are not Transformer Engine's; at the first forward pass,
            quantisation is off inside a layer.
    """
    config = model.config
    for layer in model.decoder.layers:
        attention, mlp = layer.self_attention, layer.mlp
        linears = (attention.linear_qkv, attention.linear_proj, mlp.linear_fc1, mlp.linear_fc2)
        others = [type(linear).__name__ for linear in linears if not isinstance(linear, TE_LINEAR_TYPES)]
        assert not others, f"layer {layer.layer_number}: {others} are not Transformer Engine's: they would run in bf16"
        if not is_first_last_bf16_layer(config, layer.layer_number - 1):
            for linear in linears:
                _check_once(linear, layer.layer_number)


def _check_once(linear: torch.nn.Module, number: int) -> None:
    from transformer_engine.pytorch.fp8 import FP8GlobalStateManager

    def check(module: torch.nn.Module, inputs: Any) -> None:
        enabled = FP8GlobalStateManager.is_fp8_enabled()
        assert enabled, f"layer {number}: {type(module).__name__} runs outside of Transformer Engine's FP8 context"
        handle.remove()

    handle: RemovableHandle = linear.register_forward_pre_hook(check)
