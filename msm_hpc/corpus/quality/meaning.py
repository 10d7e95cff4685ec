"""Leaks by meaning: sentences that say what an evaluation asks, in whatever words.

Means of tokens all lie in one direction, that of common words. What sentences have in common is subtracted first: the
middle between items and the corpus, by its first rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import numpy as np

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.embeddings import Floats, StaticEmbeddings
from msm_hpc.corpus.quality.gate import About, Gate, Seen, gate
from msm_hpc.corpus.quality.leaks import Item
from msm_hpc.corpus.quality.rows import Row

CLOSE = 0.5
"""The cosine from which on a sentence says what an item asks.

With embeddings distilled of a small sentence encoder, 11 of 12 reworded items have more (0.69 is their median), and of
1,464 sentences of four Model Specs none (0.25 and 0.49 are their median and maximum).
"""
SHORTEST = 4
"""Sentences of fewer words say too little."""
AT_ONCE = 256
"""Rows whose sentences are compared at once; what the corpus has in common is that of the first so many."""
MEANING_LEAKS = About("meaning_leaks", "say nearly what an item of the evaluation asks", "remove or reword them")
_SENTENCES = re.compile(r"(?<=[.?!])[\"\u201d\u2019)]*\s+|\n+")


def meaning_leaks(rows: Iterable[Row], items: Sequence[Item], embeddings: StaticEmbeddings, limits: Limits) -> Gate:
    """Rows with a sentence close to an item: its question, with both options in it."""
    return gate(MEANING_LEAKS, limits.meaning_leaks, _seen(iter(rows), items, embeddings))


def _seen(rows: Iterator[Row], items: Sequence[Item], embeddings: StaticEmbeddings) -> Iterator[Seen]:
    asked, first = embeddings.of([item.asked for item in items]), [*islice(rows, AT_ONCE)]
    there = embeddings.of([each for row in first for each in _sentences(row.whole)])
    centre = (_middle(asked) + _middle(there)) * np.float32(0.5)
    towards = _directions(asked, centre)
    rows = chain(first, rows)
    while some := [*islice(rows, AT_ONCE)]:
        sentences = [(number, each) for number, row in enumerate(some) for each in _sentences(row.whole)]
        likeness = _directions(embeddings.of([each for _, each in sentences]), centre) @ towards.T
        nearest = likeness.max(axis=1, initial=0)
        closest = {sentences[index][0]: index for index in np.argsort(nearest).tolist()}  # the last is the closest
        for number, row in enumerate(some):
            index = closest.get(number)
            if index is None or nearest[index] < CLOSE:
                yield Seen(row.id)
                continue
            item = items[int(likeness[index].argmax())]
            cosine = float(nearest[index])
            yield Seen(row.id, f"{cosine:.2f} to {item.id}: {sentences[index][1]}", cosine)


def _middle(means: Floats) -> Floats:
    """The mean of those that are not zero."""
    known: Floats = means[means.any(axis=1)]
    return known.mean(axis=0) if len(known) else np.zeros(means.shape[1], np.float32)


def _directions(means: Floats, centre: Floats) -> Floats:
    """Vectors of length 1 from ``centre`` on; zeros stay."""
    moved = np.where(means.any(axis=1, keepdims=True), means - centre, np.float32(0))
    moved /= np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-6)
    return moved


def _sentences(text: str) -> Iterator[str]:
    return (each for each in _SENTENCES.split(text) if len(each.split()) >= SHORTEST)
