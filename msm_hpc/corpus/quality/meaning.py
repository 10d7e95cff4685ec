"""Leaks by meaning: sentences that say what an evaluation asks, in whatever words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.embeddings import StaticEmbeddings
from msm_hpc.corpus.quality.gate import About, Gate, Seen, gate
from msm_hpc.corpus.quality.leaks import Item
from msm_hpc.corpus.quality.rows import Row

CLOSE = 0.75
"""The cosine from which on a sentence says what an item asks. By embeddings distilled of a small sentence encoder,
paraphrases have 0.7 on average, and unrelated sentences 0.1."""
SHORTEST = 4
"""Sentences of fewer words say too little."""
AT_ONCE = 256
"""Rows whose sentences are compared at once."""
MEANING_LEAKS = About("meaning_leaks", "say nearly what an item of the evaluation asks", "remove or reword them")
_SENTENCES = re.compile(r"(?<=[.?!])[\"\u201d\u2019)]*\s+|\n+")


def meaning_leaks(rows: Iterable[Row], items: Sequence[Item], embeddings: StaticEmbeddings, limits: Limits) -> Gate:
    """Rows with a sentence close to an item: its question, with both options in it."""
    asked = embeddings.of([item.asked for item in items])

    def seen() -> Iterator[Seen]:
        left = iter(rows)
        while some := [*islice(left, AT_ONCE)]:
            sentences = [(number, each) for number, row in enumerate(some) for each in _sentences(row.whole)]
            likeness = embeddings.of([each for _, each in sentences]) @ asked.T
            nearest = likeness.max(axis=1, initial=0)
            worst = {number: index for index in np.argsort(nearest).tolist() for number in (sentences[index][0],)}
            for number, row in enumerate(some):
                index = worst.get(number)
                cosine = 0.0 if index is None else float(nearest[index])
                close = index is not None and cosine >= CLOSE
                item = items[int(likeness[index].argmax())].id if close else ""
                yield Seen(row.id, f"{cosine:.2f} to {item}: {sentences[index or 0][1]}" if close else "", cosine)

    return gate(MEANING_LEAKS, limits.meaning_leaks, seen())


def _sentences(text: str) -> Iterator[str]:
    return (each for each in _SENTENCES.split(text) if len(each.split()) >= SHORTEST)
