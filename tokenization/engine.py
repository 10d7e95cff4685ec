"""Text to token ids, by the fastest program that is proved exact.

The reference is Hugging Face ``tokenizers``: its ids are right by definition. ``fastokens`` makes the same ids some
thirty times as fast, but for which tokenizers that is true can only be tried, so it is tried three times:

1. it must load the tokenizer at all (it knows byte-level BPE, not every model);
2. once loaded, it must agree with the reference on a hard sample (:func:`hard_sample`);
3. while it works, it must agree on the ends of the first texts and of about one of 1,024, chosen by the text alone.

After a failure of 1 or 2 the reference is used instead; after one of 3 :class:`Inexact` is raised, and the task is
done again with the reference. A small share goes to the reference at once: loading the fast engine costs as much as
encoding some megabytes.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import tokenizers

from tokenization.encoded import Ragged

WORTH_LOADING = 4 << 20
"""Bytes of corpus. Loading fastokens for a vocabulary of 128k takes about as long as the reference takes for 3 MB."""
CHECKED_CHARACTERS = 1_000
FIRST_CHECKED = 4
ONE_TEXT_IN = 1024


class Inexact(Exception):
    """A sampled check found that a fast way gives other tokens than the reference; the message says where."""


class Engine(Protocol):
    """Encodes ordinary text: what looks like a control token stays text, and nothing is added before or after."""

    @property
    def name(self) -> str:
        """Package and version, for the manifest."""
        ...

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The token ids of each text."""
        ...


class ReferenceEngine:
    """Hugging Face ``tokenizers``; ``control_text`` reads the text of a control token as that token."""

    name = f"tokenizers {tokenizers.__version__}"

    def __init__(self, tokenizer: tokenizers.Tokenizer, *, control_text: bool = False) -> None:
        self._tokenizer = tokenizer
        self._control_text = control_text

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The token ids of each text."""
        self._tokenizer.encode_special_tokens = not self._control_text
        lists = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        offsets = np.zeros(len(lists) + 1, np.int64)
        np.cumsum([len(ids) for ids in lists], out=offsets[1:])
        ids = np.fromiter((token for ids in lists for token in ids), np.int32, count=offsets[-1])
        return Ragged(ids, offsets)


class FastEngine:
    """``fastokens``, in one thread.

    Its own threads take a third more CPU time, most of it spent waiting for each other; array tasks share the work
    better. A value that the user has given ``FASTOKENS_BPE_THREADS`` is kept.

    Raises:
        ValueError: it cannot load this tokenizer.
    """

    def __init__(self, path: Path, *, control_text: bool = False) -> None:
        # Imported here: a task that needs the reference alone starts without it.
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        from importlib.metadata import version

        import fastokens

        self.name = f"fastokens {version('fastokens')}"
        self._tokenizer = fastokens.Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._control_text = control_text

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The token ids of each text."""
        ids, offsets = self._tokenizer.encode_batch_flat(list(texts), split_special_tokens=not self._control_text)
        return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64))


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

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The token ids of each text.

        Raises:
            Inexact: the reference encodes one of the sampled texts otherwise.
        """
        first = max(FIRST_CHECKED - self.checked_texts, 0)
        sampled = [*texts[:first], *(text for text in texts[first:] if _is_sampled(text))]
        if sampled:
            self.check([text[:CHECKED_CHARACTERS] for text in sampled])
            self.check([text[-CHECKED_CHARACTERS:] for text in sampled])
            self.checked_texts += len(sampled)
        return self._fast.encode(texts)

    def check(self, texts: Sequence[str]) -> None:
        """Encode texts both ways.

        Raises:
            Inexact: one of them gives other ids.
        """
        ours, theirs = self._fast.encode(texts), self._reference.encode(texts)
        for index, text in enumerate(texts):
            if not np.array_equal(ours[index], theirs[index]):
                raise Inexact(f"{self._fast.name} differs from {self._reference.name} on {text[:60]!r}")


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
        return Choice(reference, None, f"{corpus_bytes} bytes are too few to load fastokens for")
    try:
        fast = FastEngine(path, control_text=control_text)
        checked = CheckedEngine(fast, reference)
        checked.check(hard_sample(specials))
    except ValueError as error:
        return Choice(reference, None, f"fastokens cannot load it: {error}")
    except Inexact as error:
        return Choice(reference, None, str(error))
    return Choice(fast, checked, None)


def hard_sample(specials: Sequence[str]) -> list[str]:
    """Texts on which tokenizers have been seen to differ.

    Every code point of the Basic Multilingual Plane in steps of 13 and of the others in steps of 997, alone between
    letters and in runs; contractions in all cases; runs of every white space; digits; code; joined emoji; decomposed
    accents; and the given control-token texts, whole, cut short and nested.
    """
    points = [*range(0x20, 0xD800, 13), *range(0xE000, 0x10000, 13), *range(0x10000, 0x110000, 997)]
    runs = ["".join(map(chr, points[start : start + 64])) for start in range(0, len(points), 64)]
    between = ["".join(f"a{chr(point)}b {chr(point)}" for point in points[start::97]) for start in range(97)]
    spaces = [
        f"x{space * count}{end}"
        for space in (" ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u0085", " \n", "\n ")
        for count in (1, 2, 3, 7, 33)
        for end in ("", "y", "\n", "!")
    ]
    words = [
        "I'm you'RE WE'LL don'T it'S o'clock 'tis ''s x'd",
        "0 1 12 123 1234 12345 3.14159 1,000,000 ½ ٣٤ ४५ 1e-9",
        'def f(x):\n\tif x >= 10:\n\t\treturn {"a": [1, 2]}  # note\n\n\n',
        "<html>\n  <p class='x'>a&amp;b</p>\n</html>\n// ===== \\\\ ____ -----",
        "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 e\u0301 \u1112\u1161\u11ab ﬁ Å Ω ǅ ß İ \u0131",
        "机器学习是人工智能的一个分支。東京に行きました\uff01 한국어 ไทย हिन्दी עברית العربية",
        "a" * 500 + " " + "é" * 100 + "\ufeff\u200b\ufffd\x00\x7f",
    ]
    control = [text for special in specials[:64] for text in (special, f"a{special}b {special}\n", special[:-1])]
    return ["", " ", *runs, *between, *spaces, *words, *control, "".join(specials[:64])]


def _is_sampled(text: str) -> bool:
    return zlib.crc32((text[:64] + text[-64:]).encode()) % ONE_TEXT_IN == 0
