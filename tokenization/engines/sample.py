"""Which texts and chats are encoded by the reference too, and the comparison.

That a fast way of encoding is exact can be tried, not proved. So while it works, the first items of each kind and about
one of 1,024 are encoded both ways. The choice depends on the item alone: the number of tasks does not change it, and a
corpus that is tokenised again is checked in the same places.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

ONE_IN = 1024


class Inexact(Exception):
    """A fast way gives other tokens than the reference; the message says where."""


class Sample:
    """Picks the items to check, and counts them.

    Attributes:
        checked: how many were picked.
    """

    def __init__(self, first: int) -> None:
        """``first`` items of each kind are always picked."""
        self._first = first
        self._seen: Counter[Hashable] = Counter()
        self.checked = 0

    def picks(self, key: str, kind: Hashable = None) -> bool:
        """Whether to check the item that ``key`` identifies, the next one of its kind."""
        self._seen[kind] += 1
        picked = self._seen[kind] <= self._first or zlib.crc32(key.encode()) % ONE_IN == 0
        self.checked += picked
        return picked


def check_equal(fast: NDArray[np.generic], reference: NDArray[np.generic], what: str) -> None:
    """Compare what the two ways made of one item.

    Raises:
        Inexact: they differ; says ``what``.
    """
    if not np.array_equal(fast, reference):
        raise Inexact(what)
