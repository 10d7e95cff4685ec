"""Which engine encodes the texts: ``fastokens`` where it is exact, else the reference.

The reference is Hugging Face ``tokenizers``: its ids are right by definition. ``fastokens`` is some thirty times as
fast. For which tokenizers it makes the same ids can only be tried, so it is tried three times:

1. it must load the tokenizer at all;
2. it must agree with the reference on a hard sample (``hard_sample.py``);
3. while it works, it must agree on the two ends of a sample of the texts (``sample.py``).

After a failure of 1 or 2 the reference is taken. After one of 3 :class:`Inexact` is raised, and the task is done again
with the reference. A small share goes to the reference at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from tokenization.encoded import Ragged
from tokenization.engines.fast import FastEngine
from tokenization.engines.hard_sample import hard_sample
from tokenization.engines.reference import Engine, ReferenceEngine, compare
from tokenization.engines.sample import Inexact, Sample

WORTH_LOADING = 4 << 20
"""Bytes of corpus. Loading the fast engine takes about as long as the reference takes for this."""
CHECKED_CHARACTERS = 1_000
KEY_CHARACTERS = 64
FIRST_CHECKED = 4


class CheckedEngine:
    """A fast engine that is compared with the reference on a sample of what it encodes."""

    def __init__(self, fast: Engine, reference: Engine) -> None:
        self._fast = fast
        self._reference = reference
        self._sample = Sample(FIRST_CHECKED)
        self.name = fast.name

    @property
    def checked_texts(self) -> int:
        """How many texts of the corpus were compared."""
        return self._sample.checked

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them.

        Raises:
            Inexact: the reference encodes one of the sampled texts differently.
        """
        sampled = [text for text in texts if self._sample.picks(text[:KEY_CHARACTERS] + text[-KEY_CHARACTERS:])]
        if sampled:
            ends = [part for text in sampled for part in (text[:CHECKED_CHARACTERS], text[-CHECKED_CHARACTERS:])]
            compare(self._fast, self._reference, ends)
        return self._fast.encode(texts, end)


@dataclass(frozen=True)
class ChosenEngine:
    """The engine that encodes the texts.

    Attributes:
        engine: the engine itself, unchecked: chats are checked as a whole.
        checked: the same engine, which compares a sample of the texts with the reference; None if it is the reference.
        why_not_fast: why it is the reference; None if it is the fast engine.
    """

    engine: Engine
    checked: CheckedEngine | None
    why_not_fast: str | None


def choose(
    path: Path, tokenizer: tokenizers.Tokenizer, corpus_bytes: int, specials: Sequence[str], special_text: bool = False
) -> ChosenEngine:
    """The fast engine if it is exact for a tokenizer and worth loading, else the reference.

    Args:
        path: its ``tokenizer.json``.
        tokenizer: the same, loaded.
        corpus_bytes: how much there is to encode.
        specials: texts of its special tokens.
        special_text: whether the text of a special token in a document becomes that token.
    """
    reference = ReferenceEngine(tokenizer, special_text=special_text)
    if corpus_bytes < WORTH_LOADING:
        return ChosenEngine(reference, None, f"{corpus_bytes} bytes are too few to load a fast engine for")
    try:
        fast = FastEngine(path, special_text=special_text)
        compare(fast, reference, hard_sample(specials))
    except ValueError as error:
        return ChosenEngine(reference, None, f"fastokens cannot load it: {error}")
    except Inexact as error:
        return ChosenEngine(reference, None, str(error))
    return ChosenEngine(fast, CheckedEngine(fast, reference), None)
