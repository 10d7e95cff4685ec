"""Hugging Face ``tokenizers``, whose ids are right by definition, and what every engine offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tokenizers

from tokenization.encoded import Ragged
from tokenization.engines.sample import check_equal


class Engine(Protocol):
    """Encodes ordinary text: what looks like a special token stays text, and nothing is added before it."""

    @property
    def name(self) -> str:
        """For the manifest: a package of others with its version."""
        ...

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them."""
        ...


class ReferenceEngine:
    """Hugging Face ``tokenizers``; ``special_text`` reads the text of a special token as that token."""

    name = f"tokenizers {tokenizers.__version__}"

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, special_text: bool = False) -> None:
        self.tokenizer = tokenizer
        self._special_text = special_text

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them."""
        self.tokenizer.encode_special_tokens = not self._special_text
        lists = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        offsets = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(ids) for ids in lists], out=offsets[1:])
        ids = np.fromiter((token for ids in lists for token in ids), np.int32, count=offsets[-1])
        return Ragged(ids, offsets).ended(end)


def compare(engine: Engine, reference: Engine, texts: Sequence[str]) -> None:
    """Encode texts both ways.

    Raises:
        Inexact: one of them gives other ids.
    """
    ours, theirs = engine.encode(texts), reference.encode(texts)
    for index, text in enumerate(texts):
        check_equal(ours[index], theirs[index], f"{engine.name} differs from {reference.name} on {text[:60]!r}")
