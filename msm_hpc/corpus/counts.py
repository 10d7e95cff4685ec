"""How many documents there are to be of each section and type, before any is asked for.

Sections have equal shares, and within each its types, up to one document: what does not divide goes to the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """``ideas[section][type]``: how many documents are planned."""

    ideas: tuple[tuple[int, ...], ...]

    @property
    def documents(self) -> int:
        """How many there are in all."""
        return sum(map(sum, self.ideas))

    @property
    def cells(self) -> int:
        """How many pairs of a section and a type there are."""
        return sum(map(len, self.ideas))


def items_for(tokens: int, document_tokens: int, spare: float) -> int:
    """How many documents a budget of tokens takes, with some to spare for those that will be rejected."""
    return math.ceil(round(tokens * (1 + spare) / document_tokens, 6))


def balanced(documents: int, sections: int, types: int) -> Counts:
    """``documents`` over so many sections, each with at most ``types`` types of document."""
    return Counts(tuple(shared(each, min(types, each)) for each in shared(documents, sections)))


def shared(amount: int, among: int) -> tuple[int, ...]:
    """``amount`` in ``among`` parts that differ by one at most, the larger ones first."""
    return tuple(amount // among + (index < amount % among) for index in range(among))
