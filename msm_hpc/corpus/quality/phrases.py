"""Words that say nothing of what a text is about, and a lookup of phrases in texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

COMMON = frozenset((Path(__file__).parent / "common_words.txt").read_text(encoding="utf-8").split())
"""Words that any text may have."""


@dataclass(frozen=True)
class Phrases:
    """Phrases that are looked for in texts, whatever stands between their words but letters and digits."""

    phrases: Iterable[tuple[str, ...]]

    @cached_property
    def _by_start(self) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
        found: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
        for phrase in sorted({*self.phrases} - {()}):
            found[phrase[:2]].append(phrase)
        return dict(found)

    def within(self, given: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Those in a text of these words, as often as they are there."""
        starts = self._by_start
        pairs = [*pairwise(given)]
        yield from ((word,) for word in given if (word,) in starts)
        if starts.keys().isdisjoint(pairs):
            return  # true of nearly all texts
        for index, pair in enumerate(pairs):
            for phrase in starts.get(pair, ()):
                if tuple(given[index : index + len(phrase)]) == phrase:
                    yield phrase
