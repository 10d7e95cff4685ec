"""Names and phrases that run through a corpus: what a model makes of everything when left to itself.

The gate is on the share of documents that have the most frequent one. What the spec speaks of itself is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, takewhile

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import SHOWN, About, Gate, Seen
from msm_hpc.corpus.quality.lossy import LossyCounts
from msm_hpc.corpus.quality.phrases import COMMON
from msm_hpc.corpus.quality.rows import DOCUMENTS, Row, Subject
from msm_hpc.corpus.words import runs, words

FEWEST = 5
"""In fewer documents than this, nothing occurs too often."""
PRECISION = 10
"""Counts are too low by at most this part of the limit."""
PHRASE, PROSE = 4, 6
"""How many words a phrase has, and at least a line in which names are looked for: not a heading."""
NAMES = About("names", "have one and the same name", "widen the pools of names, or choose another model", "documents")
FULL_NAMES = About(
    "full_names", "have a person or thing of one and the same full name", "widen the pools of names", "documents"
)
PHRASES = About(
    "phrases",
    "have one and the same phrase",
    "ask for other styles in the prompts, or choose another model",
    "documents",
)
_CAPITALISED = r"[A-Z\u00c0-\u00de][\w'\u2019-]*"
_RUN = re.compile(rf"\b{_CAPITALISED}(?: {_CAPITALISED})*")
_OPENS = re.compile(r"(?:\A|[.!?:;\u201c\"(*_>\u2018\u2014-])\s*\Z")


def names(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Single names."""
    own = subject.words | COMMON
    return _most(
        NAMES, limits.names, rows, lambda row: {part for name in _names(row.said, own) for part in name.split()}
    )


def full_names(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Names of several words: of an invented person or place that many texts have."""
    own = subject.words | COMMON
    return _most(
        FULL_NAMES, limits.full_names, rows, lambda row: {name for name in _names(row.said, own) if " " in name}
    )


def phrases(rows: Iterable[Row], subject: Subject, limits: Limits) -> Gate:
    """Phrases of four words, one at least being neither common nor a word of the spec."""
    usual = COMMON | subject.words

    def found(row: Row) -> set[str]:
        return {" ".join(run) for run in runs(words(row.said), PHRASE) if not usual.issuperset(run)}

    return _most(PHRASES, limits.phrases, rows, found)


def _most(about: About, limit: float, rows: Iterable[Row], things: Callable[[Row], set[str]]) -> Gate:
    counts = LossyCounts(error=max(limit, 1e-3) / PRECISION)
    for row in rows:
        if row.kind in DOCUMENTS:
            counts.add(row.id, things(row))
    often = [*islice(takewhile(lambda each: each[0] >= FEWEST, counts.most()), SHOWN)]
    examples = tuple(Seen(first, f"{thing}: {count:,} documents", count) for count, thing, first in often)
    return Gate(about, often[0][0] if often else 0, counts.documents, limit, examples)


def _names(text: str, own: frozenset[str]) -> Iterator[str]:
    """What is written with a capital though no sentence begins with it, in lines of prose."""
    for line in text.splitlines():
        if len(line.split()) < PROSE:
            continue
        for match in _RUN.finditer(line):
            parts = match[0].split()
            if _OPENS.search(line, max(match.start() - 3, 0), match.start()) and (
                len(parts) == 1 or parts[0].casefold() in COMMON
            ):
                parts = parts[1:]
            parts = [part.removesuffix("'s").removesuffix("\u2019s") for part in parts]
            if parts and not own.issuperset(words(" ".join(parts))):
                yield " ".join(parts)
