"""Packed rows as Megatron micro-batches.

Two documents ``a b c`` and ``d e`` in a row of 8 tokens, with every token trainable::

    tokens     a b c d e . . .      (. is padding: a document of its own, never trained on)
    labels     b c . e . . . .
    loss mask  1 1 0 1 0 0 0 0      the last token of a document has nothing to predict
    boundaries 0     3   5     8    attention and positions start again at each
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from msm_hpc.training.megatron.zigzag import RowShape, positions
from tokenization.packing.plan import Piece


class Rows(Protocol):
    """A pack plan; ``pad_id`` fills rows up."""

    sequence_length: int
    pad_id: int

    def __len__(self) -> int: ...

    def row(self, index: int) -> list[Piece]:
        """The pieces of one row."""
        ...


class Documents(Protocol):
    """A shard."""

    def tokens(self, document: int) -> NDArray[np.integer[Any]]:
        """(length,) token ids of one document."""
        ...

    def loss_mask(self, document: int) -> NDArray[np.integer[Any]]:
        """(length,) 1 where the token is a training target."""
        ...


@dataclass(frozen=True)
class MicroBatch:
    """``m`` packed rows of ``S`` tokens laid end to end; all tensors but ``boundaries`` have shape [1, m * S].

    ``tokens`` and ``labels`` are int64, ``loss_mask`` float32, ``boundaries`` int32 [documents + 1] from 0 to m * S.
    ``longest`` is the length of the longest document, ``real_tokens`` counts what is not padding, and ``pairs`` is the
    sum of the squares of the documents' lengths.

    A context-parallel rank has its share of the tokens, [1, m * S / ranks]; all else describes the whole batch.
    """

    tokens: Tensor
    labels: Tensor
    loss_mask: Tensor
    boundaries: Tensor
    longest: int
    real_tokens: int
    pairs: int

    def to(self, device: torch.device | str | int) -> MicroBatch:
        """The same batch on ``device``."""
        return MicroBatch(
            self.tokens.to(device),
            self.labels.to(device),
            self.loss_mask.to(device),
            self.boundaries.to(device),
            self.longest,
            self.real_tokens,
            self.pairs,
        )

    def part(self, rank: int, ranks: int) -> MicroBatch:
        """The share of this whole batch that context-parallel rank ``rank`` of ``ranks`` has."""
        if ranks == 1:
            return self
        own = torch.from_numpy(positions(self.boundaries.numpy().astype(np.int64), rank, ranks))
        return replace(self, tokens=self.tokens[:, own], labels=self.labels[:, own], loss_mask=self.loss_mask[:, own])


def micro_batch(
    plan: Rows, shards: Mapping[str, Documents], rows: Sequence[int], shape: RowShape | None = None
) -> MicroBatch:
    """Read the rows numbered ``rows`` of ``plan`` from ``shards``, in their own shape or, if given, in ``shape``."""
    shape = shape or RowShape(plan.sequence_length)
    width = shape.width
    tokens = np.full(len(rows) * width, plan.pad_id, np.int64)
    labels = np.full_like(tokens, plan.pad_id)
    mask = np.zeros(len(tokens), np.float32)
    boundaries = [0]
    real = pairs = 0
    for number, row in enumerate(rows):
        begin = number * width
        for piece in plan.row(row):
            end = begin + piece.length
            part = slice(piece.start, piece.start + piece.length)
            shard = shards[piece.shard]
            tokens[begin:end] = shard.tokens(piece.document)[part]
            # A label is the next token of the same document, and counts where that token is a target: the shard's
            # mask, shifted by one. The last token of a document keeps label pad_id and mask 0.
            labels[begin : end - 1] = tokens[begin + 1 : end]
            mask[begin : end - 1] = shard.loss_mask(piece.document)[part][1:]
            # Where documents are padded (context parallelism), the padding belongs to the document.
            begin += shape.padded(piece.length)
            boundaries.append(begin)
            real += piece.length
            pairs += piece.length**2
        if begin < (number + 1) * width:  # what is left of the row is one more document, of padding
            boundaries.append((number + 1) * width)
    return MicroBatch(
        tokens=torch.from_numpy(tokens)[None],
        labels=torch.from_numpy(labels)[None],
        loss_mask=torch.from_numpy(mask)[None],
        boundaries=torch.tensor(boundaries, dtype=torch.int32),
        longest=int(np.diff(boundaries).max()),
        real_tokens=real,
        pairs=pairs,
    )
