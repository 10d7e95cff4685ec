"""Causal attention over packed rows whose tokens are spread over context-parallel ranks, in plain torch.

Used where there is no Transformer Engine. Each rank gathers the keys and values of all ranks (in the backward pass
their gradients are summed, and each rank gets its own) and attends with its own queries: two runs of each document, see
:mod:`msm_hpc.training.megatron.zigzag`. A run sees its document up to its own end::

    document of 8 tokens, 2 ranks, rank 1's second run      queries a4 a5     keys a0 a1 a2 a3 a4 a5

Runs of similar length are laid out as one padded batch, as in :mod:`msm_hpc.training.megatron.attention`.
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
from numpy.typing import NDArray
from torch import Tensor

from msm_hpc.training.megatron.attention import PackedAttention, padded_width
from msm_hpc.training.megatron.zigzag import positions


@dataclass(frozen=True)
class QueryRun:
    """Consecutive queries of this rank, ``[query, query + size)``, in a document that begins at token ``document``.

    ``before`` tokens of the document come before the first of them.
    """

    query: int
    size: int
    document: int
    before: int

    @property
    def keys(self) -> int:
        """Keys that its last query sees: the document up to the run's own end."""
        return self.before + self.size


@dataclass(frozen=True)
class RunBatch:
    """Padded runs of similar length: ``queries`` and ``keys`` (int64) list the token at each padded position.

    ``seen`` (bool, [runs, 1, queries of a run, keys of a run]) says which keys each query sees.
    """

    queries: Tensor
    keys: Tensor
    seen: Tensor


@dataclass(frozen=True)
class RunBatches:
    """``scatter`` (int64, one a token of this rank) says at which padded position of all batches a token is."""

    batches: tuple[RunBatch, ...]
    scatter: Tensor


@lru_cache(maxsize=64)
def run_batches(boundaries: tuple[int, ...], rank: int, ranks: int, device: torch.device) -> RunBatches:
    """What ``rank`` of ``ranks`` computes of the documents between ``boundaries``; keys are numbered as gathered."""
    edges = np.array(boundaries)
    # The gathered keys are rank 0's tokens, then rank 1's, ...; gathered[t] is where among them token t of the row is
    # (argsort inverts the permutation).
    gathered = np.argsort(np.concatenate([positions(edges, each, ranks) for each in range(ranks)]))
    groups: dict[tuple[int, int], list[QueryRun]] = {}
    for run in _runs(boundaries, rank, ranks):
        groups.setdefault((padded_width(run.size), padded_width(run.keys)), []).append(run)
    scatter = np.empty(boundaries[-1] // ranks, np.int64)
    batches, padded = [], 0  # padded positions of the batches so far
    for (width, keys), runs in sorted(groups.items()):
        for number, run in enumerate(runs):
            scatter[run.query : run.query + run.size] = padded + number * width + np.arange(run.size)
        padded += len(runs) * width
        batches.append(_batch(runs, width, keys, gathered, device))
    return RunBatches(tuple(batches), torch.from_numpy(scatter).to(device))


def _batch(runs: list[QueryRun], width: int, keys: int, gathered: NDArray[np.int64], device: torch.device) -> RunBatch:
    """``runs``, padded to ``width`` queries and ``keys`` keys by repeating the last of each."""
    # [runs, width] of this rank's tokens, and [runs, keys] of the row's tokens.
    query = np.array([run.query + np.minimum(np.arange(width), run.size - 1) for run in runs])
    key = np.array([run.document + np.minimum(np.arange(keys), run.keys - 1) for run in runs])
    # Query i of a run is token before + i of its document, and sees keys 0 to before + i. For padding keys that is
    # never true of a real query, since they are numbered from before + size on.
    before = torch.tensor([run.before for run in runs], device=device).view(-1, 1, 1, 1)
    seen = torch.arange(keys, device=device) <= before + torch.arange(width, device=device).unsqueeze(1)
    queries, places = (torch.from_numpy(index.ravel()).to(device) for index in (query, gathered[key]))
    return RunBatch(queries, places, seen)


def _runs(boundaries: tuple[int, ...], rank: int, ranks: int) -> list[QueryRun]:
    """The early and the late run of each document that ``rank`` has, in the order of its tokens."""
    runs, query = [], 0
    for start, end in pairwise(boundaries):
        size = (end - start) // (2 * ranks)
        for number in (rank, 2 * ranks - 1 - rank) if size else ():  # no size: an empty document
            runs.append(QueryRun(query, size, start, number * size))
            query += size
    return runs


class ContextParallelAttention(PackedAttention):
    """:class:`~msm_hpc.training.megatron.attention.PackedAttention` where each rank has a share of the tokens."""

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
        plan = run_batches(boundaries, group.rank(), group.size(), query.device)
        # Named after sequence parallelism, it gathers along the first dimension in whatever group it is given.
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
