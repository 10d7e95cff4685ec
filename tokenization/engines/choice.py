"""Text to token ids, by the fastest program that is proved exact.

The reference is Hugging Face ``tokenizers``: its ids are right by definition. Our own engine (``bpe.py``) knows the
family of Llama-3 and Qwen, ``fastokens`` some others; both are some thirty times as fast. For which tokenizers they
make the same ids can only be tried, so it is tried three times:

1. the engine must load the tokenizer at all;
2. it must agree with the reference on a hard sample (``hard_sample.py``);
3. while it works, it must agree on the ends of the first texts and of about one of 1,024, chosen by the text alone.

After a failure of 1 or 2 the next is tried, and the reference last; after one of 3 :class:`Inexact` is raised, and the
task is done again with the reference. A small share goes to the reference at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from tokenization.encoded import Ragged
from tokenization.engines.bpe import NAME, load_bpe
from tokenization.engines.fast import FastEngine
from tokenization.engines.hard_sample import hard_sample
from tokenization.engines.reference import Engine, Inexact, ReferenceEngine, compare

WORTH_LOADING = 4 << 20
"""Bytes of corpus. To load an engine that was not used before takes about as long as the reference takes for this."""
CHECKED_CHARACTERS = 1_000
FIRST_CHECKED = 4
ONE_TEXT_IN = 1024


class CheckedEngine:
    """A fast engine that is compared with the reference on a sample of what it encodes.

    Attributes:
        checked_texts: how many texts of the corpus were compared.
    """

    def __init__(self, fast: Engine, reference: Engine) -> None:
        self._fast = fast
        self._reference = reference
        self.name = fast.name
        self.checked_texts = 0

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them.

        Raises:
            Inexact: the reference encodes one of the sampled texts otherwise.
        """
        first = max(FIRST_CHECKED - self.checked_texts, 0)
        sampled = [*texts[:first], *(text for text in texts[first:] if _is_sampled(text))]
        if sampled:
            ends = [part for text in sampled for part in (text[:CHECKED_CHARACTERS], text[-CHECKED_CHARACTERS:])]
            compare(self._fast, self._reference, ends)
            self.checked_texts += len(sampled)
        return self._fast.encode(texts, end)


@dataclass(frozen=True)
class Choice:
    """The engine taken.

    Attributes:
        engine: for texts that are checked otherwise.
        checked: the same, for texts: it compares some of them with the reference. None where it is the reference.
        why_not_fast: why it is the reference; None where it is not.
    """

    engine: Engine
    checked: CheckedEngine | None
    why_not_fast: str | None


def choose(
    path: Path, tokenizer: tokenizers.Tokenizer, corpus_bytes: int, specials: Sequence[str], control_text: bool = False
) -> Choice:
    """The fastest engine that is exact for a tokenizer.

    Args:
        path: its ``tokenizer.json``.
        tokenizer: the same, loaded.
        corpus_bytes: how much there is to encode.
        specials: texts of its control tokens.
        control_text: read such a text, in a document, as the control token.
    """
    reference = ReferenceEngine(tokenizer, control_text=control_text)
    if corpus_bytes < WORTH_LOADING:
        return Choice(reference, None, f"{corpus_bytes} bytes are too few to load a fast engine for")
    engines: dict[str, Callable[[], Engine]] = {
        NAME: lambda: load_bpe(path, tokenizer, specials, control_text=control_text),
        "fastokens": lambda: _agreeing(FastEngine(path, control_text=control_text), reference, specials),
    }
    why_not = []
    for name, load in engines.items():
        try:
            engine = load()
        except ValueError as error:
            why_not.append(f"{name} cannot load it: {error}")
        except Inexact as error:
            why_not.append(str(error))
        else:
            return Choice(engine, CheckedEngine(engine, reference), None)
    return Choice(reference, None, "; ".join(why_not))


def _agreeing(engine: Engine, reference: Engine, specials: Sequence[str]) -> Engine:
    compare(engine, reference, hard_sample(specials))
    return engine


def _is_sampled(text: str) -> bool:
    return zlib.crc32((text[:64] + text[-64:]).encode()) % ONE_TEXT_IN == 0
