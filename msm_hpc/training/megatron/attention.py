"""Causal attention within each document of a packed row, in plain torch.

A packed row is many documents end to end, ``cu_seqlens`` their boundaries. Calling attention once for each document is
slow where documents are short, and a block-diagonal mask computes mostly what it then throws away. Instead, documents
of similar length are laid out as one padded batch::

    cu_seqlens 0 3 7 9  ->  width 4: a0 a1 a2 (a2)     width 2: c0 c1
                                     b0 b1 b2 b3

Padding on the right needs no mask: under causal attention no real token looks to its right, and what the padding
positions compute is dropped. Widths are powers of two, so padding at most doubles the (small) work.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.module import MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor


@dataclass(frozen=True)
class DocumentBatches:
    """How a packed row becomes padded batches and back.

    ``gather`` (int64) lists, batch after batch, the token at each padded position; ``shapes`` gives documents and
    width of each batch; ``scatter`` (int64, one a token) says at which padded position a token is.
    """

    gather: Tensor
    shapes: tuple[tuple[int, int], ...]
    scatter: Tensor


def padded_width(length: int) -> int:
    """``length`` rounded up to a power of two."""
    return 1 << (length - 1).bit_length()


@lru_cache(maxsize=64)
def document_batches(boundaries: tuple[int, ...], device: torch.device) -> DocumentBatches:
    """Group the documents between ``boundaries`` (starting with 0) by length rounded up to a power of two."""
    edges = np.array(boundaries)
    starts, lengths = edges[:-1], np.diff(edges)
    widths = np.array([padded_width(length) if length else 0 for length in lengths.tolist()])
    gather, shapes = [], []
    scatter, padded = np.empty(boundaries[-1], np.int64), 0  # padded positions of the batches so far
    for width in sorted(set(widths.tolist()) - {0}):
        chosen = np.flatnonzero(widths == width)
        # [documents, width] of the row's tokens: what pads a document repeats its last token.
        places = np.arange(width)
        real = places < lengths[chosen, None]
        tokens = starts[chosen, None] + np.minimum(places, lengths[chosen, None] - 1)
        scatter[tokens[real]] = padded + np.flatnonzero(real)
        padded += tokens.size
        gather.append(tokens.ravel())
        shapes.append((len(chosen), width))
    indices = (torch.from_numpy(each).to(device) for each in (np.concatenate(gather), scatter))
    gathered, scattered = indices
    return DocumentBatches(gathered, tuple(shapes), scattered)


class PackedAttention(MegatronModule):  # type: ignore[misc]
    """Megatron's ``core_attention`` for packed rows (``qkv_format="thd"``), with grouped-query attention."""

    def __init__(
        self, config: TransformerConfig, *args: Any, softmax_scale: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(config=config)
        self.softmax_scale = softmax_scale
        self.grouped = config.num_query_groups != config.num_attention_heads

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        packed_seq_params: PackedSeqParams,
        **kwargs: Any,
    ) -> Tensor:
        """Attend.

        Args:
            query: ``[tokens, heads, head_dim]`` of this tensor-parallel rank.
            key: ``[tokens, key-value heads, head_dim]``.
            value: as ``key``.
            attention_mask: not used; the boundaries say it all.
            packed_seq_params: ``cu_seqlens_q`` holds the documents' boundaries, the last one being ``tokens``.
            kwargs: what Megatron passes and a causal mask does not need.

        Returns:
            ``[tokens, heads * head_dim]``.
        """
        plan = document_batches(tuple(packed_seq_params.cu_seqlens_q.tolist()), query.device)
        sizes = [documents * width for documents, width in plan.shapes]
        columns = zip(
            *(torch.split(states.index_select(0, plan.gather), sizes) for states in (query, key, value)), strict=True
        )
        outputs = []
        for (documents, width), parts in zip(plan.shapes, columns, strict=True):
            q, k, v = (part.unflatten(0, (documents, width)).transpose(1, 2) for part in parts)
            out = F.scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=self.softmax_scale, enable_gqa=self.grouped
            )
            outputs.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, plan.scatter)
