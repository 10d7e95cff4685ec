"""SwiGLU in plain torch, for layers without a fused kernel: on a CPU.

``x`` holds gate and value side by side, ``x = [a | b]``, and the output is ``silu(a) * b``. Autograd would make the
gradients of ``a`` and ``b`` separately and then copy both into one new tensor; here they are written into its halves.
``x`` and ``silu(a)`` are kept for the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor


class SwiGLU(MegatronModule):  # type: ignore[misc]
    """Megatron's ``activation_func`` of an MLP (Shazeer, arXiv 2002.05202, section 2, without biases)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config=config)

    def forward(self, both: Tensor) -> Tensor:
        """``both``: [..., 2 * width], gate first; gives [..., width] in the same dtype."""
        output: Tensor = _SwiGLU.apply(both)  # type: ignore[no-untyped-call]
        return output


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        gate, value = both.chunk(2, dim=-1)
        activated = F.silu(gate)
        ctx.save_for_backward(both, activated)
        return activated * value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        both, activated = ctx.saved_tensors
        gate, value = both.chunk(2, dim=-1)
        result = torch.empty_like(both)
        of_gate, of_value = result.chunk(2, dim=-1)
        torch.mul(gradient, value, out=of_gate)
        torch.ops.aten.silu_backward.grad_input(of_gate, gate, grad_input=of_gate)
        torch.mul(gradient, activated, out=of_value)
        return result
