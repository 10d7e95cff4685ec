"""The order in which packed rows are seen: a pure function of the seed and the step.

So a run that resumes at step 200 needs only the number 200, and every layout sees the same rows in the same global
batch. A digest (:meth:`SampleOrder.digest`) verifies that the first 200 steps used the same rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.permutation import permutation


@dataclass(frozen=True)
class SampleOrder:
    """Which rows make up each global batch.

    Epoch ``e`` is a permutation of all rows. The last global batch is filled up with the first rows of one more epoch,
    so every row is seen and every step has the same size. There must be enough rows for one global batch.
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
        """SHA-256 (hexadecimal) of the row numbers, as little-endian int64, that the first ``step`` steps use."""
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
    """The order of the rows in one epoch."""
    return permutation(rows, seed, epoch)
