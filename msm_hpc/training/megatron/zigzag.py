"""Context parallelism: which tokens of a packed row each rank has.

Under causal attention a late token attends to more than an early one. For equal work, each rank gets one early and one
late run of every document, as Transformer Engine expects it. With 2 ranks a document is padded to a multiple of 4
tokens and cut into 4 runs; the outer two are rank 0's::

    a0 a1 a2 a3 a4 .  .  .  b0 b1 b2 .
    0  0  1  1  1  1  0  0  0  1  1  0      rank
    a0 a1 .  .  b0 .                        rank 0 has these, in this order

Padding counts as the last tokens of its document: under causal attention no real token sees it, and the loss leaves it
out. Plans do not depend on the layout, so documents are padded as rows are read, and rows grow. Megatron needs rows of
one length: that of the longest, computed once from the whole plan. The others are filled up by one more document.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from msm_hpc.config.training import Layout


class Lengths(Protocol):
    """The lengths of a plan's rows."""

    sequence_length: int

    def longest_row(self, multiple: int) -> int:
        """Most tokens of a row, if each of its pieces is padded to a multiple of ``multiple`` tokens."""
        ...


@dataclass(frozen=True)
class RowShape:
    """Rows have ``width`` tokens, and documents within them are padded to multiples of ``multiple``."""

    width: int
    multiple: int = 1

    def padded(self, length: int) -> int:
        """``length`` rounded up to the multiple."""
        return _round_up(length, self.multiple)


def row_shape(plan: Lengths, layout: Layout, of_rank: int = 1) -> RowShape:
    """The shape that every row of ``plan`` fits into; without context parallelism, that of the plan itself.

    With it, the tokens of a row on one rank are a multiple of ``of_rank``, which FP8 needs, also after sequence
    parallelism has cut the share of a context-parallel rank again.
    """
    ranks = layout.context_parallel
    if ranks == 1:
        return RowShape(plan.sequence_length)
    cuts = ranks * layout.tensor_parallel if layout.sequence_parallel else ranks
    return RowShape(_round_up(plan.longest_row(2 * ranks), math.lcm(2 * ranks, cuts * of_rank)), 2 * ranks)


def positions(boundaries: NDArray[np.int64], rank: int, ranks: int) -> NDArray[np.int64]:
    """Where in the whole row the tokens of context-parallel rank ``rank`` of ``ranks`` are, in the rank's order.

    Args:
        boundaries: [documents + 1], of documents padded to multiples of ``2 * ranks``.
        rank: whose tokens.
        ranks: over how many they are divided.

    Returns:
        [tokens / ranks].
    """
    sizes = np.diff(boundaries) // (2 * ranks)
    # [documents, 2]: where this rank's early and late run of each document begin; then one run after another.
    begins = np.stack([boundaries[:-1] + rank * sizes, boundaries[:-1] + (2 * ranks - 1 - rank) * sizes], 1).ravel()
    sizes = np.repeat(sizes, 2)
    ends = np.cumsum(sizes)
    # In the rank's order the runs lie end to end: run r is at ends[r] - sizes[r], and is moved from there to begins[r].
    places: NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(begins - (ends - sizes), sizes)
    return places


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
