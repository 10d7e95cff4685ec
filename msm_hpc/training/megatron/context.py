"""Causal attention over packed rows whose tokens are spread over context-parallel ranks, in plain torch.

Where there is no Transformer Engine. Each rank gathers the keys and values of all ranks (backwards, their gradients are
summed and each rank gets its own) and attends for its own queries: two parts of each document, see
:mod:`msm_hpc.training.megatron.zigzag`. A part sees its document up to its own end::

    document of 8 tokens, 2 ranks, rank 1's second part      queries a4 a5     keys a0 a1 a2 a3 a4 a5

Parts of similar length are laid out as one padded batch, as in :mod:`msm_hpc.training.megatron.attention`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from torch import Tensor

from msm_hpc.training.megatron.attention import PackedAttention, padded_width
from msm_hpc.training.megatron.zigzag import positions


@dataclass(frozen=True)
class Part:
    """A run of queries of this rank, ``[query, query + size)``, in a document that begins at token ``document``.

    ``before`` tokens of the document come before the first of them.
    """

    query: int
    size: int
    document: int
    before: int


@dataclass(frozen=True)
class PartBatch:
    """Padded parts of similar length: ``queries`` and ``keys`` (int64) list the token at each padded position.

    ``seen`` (bool, [parts, 1, queries of a part, keys of a part]) says what each query looks at.
    """

    queries: Tensor
    keys: Tensor
    seen: Tensor


@dataclass(frozen=True)
class PartBatches:
    """``scatter`` (int64, one a token of this rank) says at which padded position of all batches a token is."""

    batches: tuple[PartBatch, ...]
    scatter: Tensor


@lru_cache(maxsize=64)
def part_batches(boundaries: tuple[int, ...], rank: int, ranks: int, device: torch.device) -> PartBatches:
    """What ``rank`` of ``ranks`` computes of the documents between ``boundaries``; keys are numbered as gathered."""
    edges = np.array(boundaries)
    gathered = np.argsort(np.concatenate([positions(edges, each, ranks) for each in range(ranks)]))
    groups: dict[tuple[int, int], list[Part]] = {}
    for part in _parts(boundaries, rank, ranks):
        widths = padded_width(part.size), padded_width(part.before + part.size)
        groups.setdefault(widths, []).append(part)
    scatter = np.empty(boundaries[-1] // ranks, np.int64)
    batches, done = [], 0
    for (width, keys), parts in sorted(groups.items()):
        query = np.array([part.query + np.minimum(np.arange(width), part.size - 1) for part in parts])
        key = np.array([part.document + np.minimum(np.arange(keys), part.before + part.size - 1) for part in parts])
        before = torch.tensor([part.before for part in parts], device=device).view(-1, 1, 1, 1)
        seen = torch.arange(keys, device=device) <= before + torch.arange(width, device=device).unsqueeze(1)
        for number, part in enumerate(parts):
            scatter[part.query : part.query + part.size] = done + number * width + np.arange(part.size)
        done += query.size
        queries, places = (torch.from_numpy(index.ravel()).to(device) for index in (query, gathered[key]))
        batches.append(PartBatch(queries, places, seen))
    return PartBatches(tuple(batches), torch.from_numpy(scatter).to(device))


def _parts(boundaries: tuple[int, ...], rank: int, ranks: int) -> list[Part]:
    parts, query = [], 0
    for start, end in pairwise(boundaries):
        size = (end - start) // (2 * ranks)
        for number in (rank, 2 * ranks - 1 - rank) if size else ():
            parts.append(Part(query, size, start, number * size))
            query += size
    return parts


class ContextParallelAttention(PackedAttention):
    """:class:`~msm_hpc.training.megatron.attention.PackedAttention` where each rank has a part of the tokens."""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        packed_seq_params: PackedSeqParams,
        **kwargs: Any,
    ) -> Tensor:
        """Attend; arguments are of this rank's tokens, ``cu_seqlens_q`` has the boundaries of the whole documents.

        Returns:
            ``[tokens of this rank, heads * head_dim]``.
        """
        group = parallel_state.get_context_parallel_group()
        boundaries = tuple(packed_seq_params.cu_seqlens_q.tolist())
        plan = part_batches(boundaries, group.rank(), group.size(), query.device)
        keys, values = (gather_from_sequence_parallel_region(states, group=group) for states in (key, value))
        outputs = []
        for batch in plan.batches:
            q, k, v = (
                states.index_select(0, index).unflatten(0, (len(batch.seen), -1)).transpose(1, 2)
                for states, index in ((query, batch.queries), (keys, batch.keys), (values, batch.keys))
            )
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=batch.seen, scale=self.softmax_scale, enable_gqa=self.grouped
            )
            outputs.append(out.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(outputs).index_select(0, plan.scatter)
