"""Texts as words: their letters and digits in lower case, whatever stands between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"\w+", text.casefold())


def normal(text: str) -> str:
    """The words of a text as one line: equal for texts that say the same."""
    return " ".join(words(text))


def runs(given: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    """All runs of ``length`` words."""
    return (tuple(given[begin : begin + length]) for begin in range(len(given) - length + 1))


def distinct(texts: Iterable[str]) -> list[str]:
    """Texts without those that say the same as an earlier one, or nothing."""
    kept: dict[str, str] = {}
    for text in texts:
        kept.setdefault(normal(text), text.strip())
    return [text for key, text in kept.items() if key]
