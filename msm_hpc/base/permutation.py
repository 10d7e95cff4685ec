"""Permutations that never change: which samples an experiment trains on, and in which order, must be reproducible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def permutation(count: int, seed: int, key: int | str) -> NDArray[np.int64]:
    """A permutation of ``range(count)``, the same on every machine and NumPy version.

    NumPy promises that for a bit generator's raw stream and for ``SeedSequence``, not for ``Generator.permutation``.

    Args:
        count: how many numbers.
        seed: of the experiment, not negative.
        key: which of the seed's permutations: an epoch, or a name.
    """
    entropy = [seed, key] if isinstance(key, int) else [seed, *key.encode()]
    return np.argsort(np.random.PCG64(entropy).random_raw(count), kind="stable")
