"""Which sort of training row could hand which evaluation its answers: rows by kind, against the items of each file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.corpus.quality.leaks import Item
from msm_hpc.corpus.quality.phrases import COMMON, Phrases
from msm_hpc.corpus.quality.rows import Row
from msm_hpc.corpus.words import words


@dataclass(frozen=True)
class Exposure:
    """Of the ``rows`` of a kind, how many have an option of an evaluation, name its domains, or ask as it asks."""

    kind: str
    evaluation: str
    rows: int
    options: int
    domains: int
    questions: int


def audit(rows: Iterable[Row], evaluations: Mapping[str, Sequence[Item]]) -> tuple[Exposure, ...]:
    """A line for each kind of row and each evaluation."""
    sought = {name: _sought(items) for name, items in evaluations.items()}
    kinds: Counter[str] = Counter()
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        kinds[row.kind] += 1
        given = words(row.whole)
        for name, each in sought.items():
            counts.update((row.kind, name, what) for what, phrases in each.items() if any(phrases.within(given)))
    return tuple(
        Exposure(kind, name, number, *(counts[kind, name, what] for what in ("options", "domains", "questions")))
        for kind, number in sorted(kinds.items())
        for name in sought
    )


def _sought(items: Sequence[Item]) -> Mapping[str, Phrases]:
    return {
        "options": Phrases(frozenset(option for item in items for option in item.options)),
        "domains": Phrases(frozenset((word,) for item in items for word in words(item.domain) if word not in COMMON)),
        "questions": Phrases(frozenset(form for item in items for form in item.forms)),
    }
