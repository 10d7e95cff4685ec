"""Packed rows as Megatron micro-batches, and the order in which they are seen.

Two documents ``a b c`` and ``d e`` in a row of 8 tokens, with every token trainable::

    tokens     a b c d e . . .      (. is padding: a document of its own, never trained on)
    labels     b c . e . . . .
    loss mask  1 1 0 1 0 0 0 0      the last token of a document has nothing to predict
    boundaries 0     3   5     8    attention and positions start again at each

The order is a pure function of the seed and the step, so a run that resumes at step 200 needs only the number 200, and
any layout sees the same rows in the same global batch. That these are the rows that the first 200 steps went on from is
checked by a digest (:meth:`SampleOrder.digest`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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

    A context-parallel rank has its part of the tokens, [1, m * S / ranks]; the rest is of the whole.
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
        """What context-parallel rank ``rank`` of ``ranks`` has of this whole batch."""
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
            labels[begin : end - 1] = tokens[begin + 1 : end]
            mask[begin : end - 1] = shard.loss_mask(piece.document)[part][1:]
            begin += shape.padded(piece.length)
            boundaries.append(begin)
            real += piece.length
            pairs += piece.length**2
        if begin < (number + 1) * width:
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


@dataclass(frozen=True)
class SampleOrder:
    """Which rows make up each global batch.

    Epoch ``e`` is a permutation of all rows. The last global batch is filled up with the first rows of one epoch more,
    so that every row is seen and every step has the same size. There must be rows for one global batch at least.
    """

    rows: int
    epochs: int
    global_batch_size: int
    seed: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return -(-self.rows * self.epochs // self.global_batch_size)

    @property
    def filled(self) -> int:
        """Rows of the epoch after the last that fill up the last global batch."""
        return self.steps * self.global_batch_size - self.rows * self.epochs

    def global_batch(self, step: int) -> list[int]:
        """The rows of step ``step`` (counted from 0), the same for every layout."""
        samples = range(step * self.global_batch_size, (step + 1) * self.global_batch_size)
        return [int(_epoch(self.rows, self.seed, n // self.rows)[n % self.rows]) for n in samples]

    def digest(self, step: int) -> str:
        """SHA-256 (hexadecimal) of the row numbers, int64 little-endian, that the first ``step`` steps consume."""
        hashed = hashlib.sha256()
        left = step * self.global_batch_size
        for epoch in range(-(-left // self.rows)):
            hashed.update(_epoch(self.rows, self.seed, epoch)[:left].astype("<i8").tobytes())
            left -= self.rows
        return hashed.hexdigest()

    def micro_batches(self, step: int, size: int, rank: int, ranks: int) -> list[list[int]]:
        """The rows that data-parallel rank ``rank`` of ``ranks`` reads in step ``step``, ``size`` at a time."""
        batch = self.global_batch(step)
        return [batch[start : start + size] for start in range(rank * size, len(batch), ranks * size)]


@lru_cache(maxsize=2)
def _epoch(rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation from PCG64's raw stream, which NumPy promises never to change (unlike its ``permutation``)."""
    return np.argsort(np.random.PCG64([seed, epoch]).random_raw(rows), kind="stable")
