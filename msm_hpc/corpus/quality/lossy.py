"""In how many documents things occur, for those in many of them, in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil


class LossyCounts:
    """Lossy counting (Manku & Motwani 2002).

    A count is too low by at most ``error`` of the documents, and what occurs in fewer may be forgotten. Of fewer than
    ``1 / error`` documents, all counts are exact.
    """

    def __init__(self, error: float) -> None:
        self.documents = 0
        self._window = ceil(1 / error)
        self._counts: dict[str, tuple[int, int, str]] = {}

    def add(self, document: str, things: Iterable[str]) -> None:
        """Count each of ``things``, which are distinct, as occurring in a document."""
        passed = self.documents // self._window
        for thing in things:
            count, missed, first = self._counts.get(thing, (0, passed, document))
            self._counts[thing] = (count + 1, missed, first)
        self.documents += 1
        if self.documents % self._window == 0:
            self._counts = {thing: each for thing, each in self._counts.items() if each[0] + each[1] > passed + 1}

    def most(self) -> Iterator[tuple[int, str, str]]:
        """Counts, things and the first document of each, from the most frequent one on."""
        found = ((count, thing, first) for thing, (count, _, first) in self._counts.items())
        yield from sorted(found, key=lambda each: (-each[0], each[1]))
