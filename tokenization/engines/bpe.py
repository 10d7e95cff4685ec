"""Our own engine: byte-level BPE of the Llama-3 and Qwen family, in C++ (``native/``).

It is exact because it asks the reference what a letter or a number is, and for normal form C; and because the two are
compared on every token of the vocabulary and on a hard sample. That, and to read 280,000 merges, takes some seconds. So
it is done once for each ``tokenizer.json``, version of the program and of the reference, and the tables are kept
(``kept.py``) for later tasks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from unicodedata import is_normalized

import numpy as np
from tokenizers import Tokenizer

from tokenization.encoded import Ragged
from tokenization.engines.hard_sample import hard_sample
from tokenization.engines.kept import keep, read_kept
from tokenization.engines.reference import ReferenceEngine, compare
from tokenization.engines.tables import Tables, Unsupported, read_tables
from tokenization.manifest import sha256_of

NAME = "tokenization.engines.bpe"
_FROM_NORMAL_FORM = frozenset("K;`")
"""The ASCII characters that normal form C makes of others."""


class BpeEngine:
    """The engine, by its tables.

    Args:
        tables: of a tokenizer.
        tokenizer: the same, by the reference.
        control_text: read the text of a control token as that token.

    Raises:
        Unsupported: its added tokens cannot be found by their text alone, or the program cannot be loaded.
    """

    name = NAME

    def __init__(self, tables: Tables, tokenizer: Tokenizer, *, control_text: bool = False) -> None:
        try:
            from tokenization.engines._bpe import Bpe
        except ImportError as error:
            raise Unsupported(
                f"it was not compiled for this machine ({error}); install g++ or clang++, and then this package again"
            ) from error
        added = _added_tokens(tokenizer, control_text)
        self._bpe = Bpe(tables.kinds, tables.byte_tokens, tables.merges, tables.digits, dict(tables.whole), added)
        self._added = re.compile(f"({'|'.join(map(re.escape, added)) or '(?!)'})")
        self._normalizer = tokenizer.normalizer

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them."""
        normal = None if self._normalizer is None else self._normal
        ids, offsets = self._bpe.encode(tuple(texts), normal, -1 if end is None else end)
        return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64))

    def _normal(self, text: str) -> str:
        """In normal form C; an added token parts what is on its two sides."""
        if is_normalized("NFC", text):
            return text
        parts = self._added.split(text)
        parts[::2] = map(self._normalizer.normalize_str, parts[::2])
        return "".join(parts)


def load_bpe(path: Path, tokenizer: Tokenizer, specials: Sequence[str], *, control_text: bool = False) -> BpeEngine:
    """The engine for a ``tokenizer.json``, proved exact now or earlier.

    Args:
        path: the file.
        tokenizer: the same, by the reference.
        specials: texts of its control tokens.
        control_text: read such a text as the control token.

    Raises:
        Unsupported: it is not of the family, or the program cannot be loaded.
        Inexact: the reference makes other ids.
    """
    programs = sorted(file for file in Path(__file__).parent.iterdir() if file.suffix in (".py", ".so", ".pyd"))
    hashes = [sha256_of(file) for file in (path, *programs)]
    depends_on = [*hashes, ReferenceEngine.name, str(control_text), *sorted(specials)]
    tables = read_kept(depends_on)
    if tables is not None:
        return BpeEngine(tables, tokenizer, control_text=control_text)
    tables, vocabulary = read_tables(path)
    if vocabulary.ignore_merges:
        tables = replace(tables, whole=_whole(BpeEngine(tables, tokenizer), vocabulary.tokens))
    engine = BpeEngine(tables, tokenizer, control_text=control_text)
    reference = ReferenceEngine(tokenizer, control_text=control_text)
    compare(engine, reference, [*vocabulary.tokens, *hard_sample(specials)])
    keep(depends_on, tables)
    return engine


def _whole(engine: BpeEngine, tokens: Mapping[str, int]) -> dict[str, int]:
    """The texts of tokens that the merges do not lead to."""
    encoded = engine.encode(list(tokens))
    items = enumerate(tokens.items())
    return {text: token for index, (text, token) in items if encoded[index].tolist() != [token]}


def _added_tokens(tokenizer: Tokenizer, control_text: bool) -> dict[str, int]:
    """Those that are looked for in a text before all else, the longest first.

    The reference looks for them in two passes, and passes over control tokens that it then leaves as text. One search
    does the same where none of them takes more than its own text, no two of different kinds overlap, and normal form
    C, which comes later, makes none.

    Raises:
        Unsupported: that is not so.
    """
    tokens = {token: number for number, token in tokenizer.get_added_tokens_decoder().items()}
    for token in tokens:
        if token.lstrip or token.rstrip or token.single_word:
            raise Unsupported(f"the added token {token.content!r} takes more than its own text")
        if tokenizer.normalizer is not None and (
            token.normalized or not token.content.isascii() or _FROM_NORMAL_FORM & set(token.content)
        ):
            raise Unsupported(f"the added token {token.content!r} is not told from text before normal form C")
    for one, other in combinations(tokens, 2):
        if (one.special, one.normalized) != (other.special, other.normalized) and _overlap(one.content, other.content):
            raise Unsupported(f"the added tokens {one.content!r} and {other.content!r} overlap")
    used = [(token.content, number) for token, number in tokens.items() if control_text or not token.special]
    return dict(sorted(used, key=lambda item: len(item[0]), reverse=True))


def _overlap(one: str, other: str) -> bool:
    shorter = range(1, min(len(one), len(other)) + 1)
    return (
        one in other
        or other in one
        or any(one.endswith(other[:length]) or other.endswith(one[:length]) for length in shorter)
    )
