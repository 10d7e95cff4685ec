"""Rotary position embedding (Su et al., arXiv 2104.09864) of packed rows, on a CPU.

Megatron slices the angles document by document, and takes their cosine and sine again, for the queries and the keys of
each layer. Here they are gathered by position, once for a micro-batch. The products are Megatron's, so the values are
the same bits. With ``x = [x1 | x2]``, the halves of a head, and ``swap(x) = [x2 | x1]``::

    forward      x * cos + swap(x) * [-sin1 | sin2]
    backward     g * cos + swap(g * [-sin1 | sin2])
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from msm_hpc.training.megatron import private


def rotate_packed(
    states: Tensor,
    boundaries: Tensor,
    angles: Tensor,
    rotary_interleaved: bool = False,
    multi_latent_attention: bool = False,
    mscale: float = 1.0,
    cp_group: Any = None,
) -> Tensor:
    """In the place of Megatron's function for ``states``, [tokens, heads, head_dim]; context parallelism is its own.

    ``angles`` are [longest document, 1, 1, head_dim].
    """
    assert not rotary_interleaved and not multi_latent_attention, "only halves are rotated"
    if cp_group.size() > 1 or angles.shape[-1] != states.shape[-1]:
        whole: Tensor = private.rotate_packed(states, boundaries, angles, mscale=mscale, cp_group=cp_group)
        return whole
    cos, sin = _cos_and_signed_sin(boundaries, angles, mscale, states.dtype)
    rotated: Tensor = _Rotation.apply(states, cos, sin)  # type: ignore[no-untyped-call]
    return rotated


@lru_cache(maxsize=2)
def _cos_and_signed_sin(boundaries: Tensor, angles: Tensor, mscale: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of each token's angles, [tokens, 1, head_dim], half of the sine negated; tensors are keys by identity."""
    starts = boundaries[:-1].long()
    lengths = boundaries.diff()
    positions = torch.arange(int(boundaries[-1]), device=starts.device) - starts.repeat_interleave(lengths)
    own = angles.squeeze(1).index_select(0, positions)
    cos, sin = ((function(own) * mscale).to(dtype) for function in (torch.cos, torch.sin))
    sin[..., : sin.shape[-1] // 2].neg_()
    return cos, sin


def _swap(states: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    return torch.cat((second, first), dim=-1)


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return (states * cos).add_(_swap(states).mul_(sin))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return (gradient * cos).add_(_swap(gradient * sin)), None, None
