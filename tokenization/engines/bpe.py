"""Our own engine: byte-level BPE of the Llama-3 and Qwen family, in C++ (``native/``).

It is exact because it asks the reference: what a letter or a number is, which texts are one token though no merges
lead there, and for normal form C. To ask, and to read 280,000 merges, takes some seconds; to compare the two on a hard
sample another. So that is done once for each ``tokenizer.json``, build of the program and version of the reference, and
the tables are kept (``kept.py``) for later tasks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from unicodedata import is_normalized

import numpy as np
from tokenizers import Tokenizer

from tokenization.encoded import Ragged
from tokenization.engines.hard_sample import hard_sample
from tokenization.engines.kept import keep, kept_path, read_kept
from tokenization.engines.reference import Inexact, ReferenceEngine, compare
from tokenization.engines.tables import Tables, Unsupported, read_tables
from tokenization.manifest import sha256_of

PROGRAM = "tokenization.engines._bpe"
_NO_END = -1


class BpeEngine:
    """The engine, by its tables.

    Args:
        tables: of a tokenizer.
        tokenizer: the same, by the reference.
        control_text: read the text of a control token as that token.

    Raises:
        Unsupported: its added tokens take white space, or are looked for in normalised text.
    """

    name = PROGRAM

    def __init__(self, tables: Tables, tokenizer: Tokenizer, *, control_text: bool = False) -> None:
        from tokenization.engines._bpe import Bpe

        added = _added_tokens(tokenizer, control_text)
        self._bpe = Bpe(tables.kinds, tables.byte_tokens, tables.merges, tables.digits, dict(tables.whole), dict(added))
        longest_first = sorted(map(re.escape, added), key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(longest_first) or '(?!)'})")
        self._normalizer = tokenizer.normalizer

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them."""
        normal = list(texts) if self._normalizer is None else list(map(self._normal, texts))
        ids, offsets = self._bpe.encode(normal, _NO_END if end is None else end)
        return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64))

    def _normal(self, text: str) -> str:
        """In normal form C; an added token parts what is on its two sides."""
        if text.isascii() or is_normalized("NFC", text):
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
        Unsupported: it is not of the family, or the program was not compiled.
        Inexact: the reference makes other ids.
    """
    program = find_spec(PROGRAM)
    if program is None or program.origin is None:
        raise Unsupported("it was not compiled; install a C++ compiler, and then this package again")
    kept = kept_path(sha256_of(path), sha256_of(Path(program.origin)), ReferenceEngine.name)
    tables = read_kept(kept)
    if tables is None:
        tables = _proved(path, tokenizer, specials)
        keep(kept, tables)
    return BpeEngine(tables, tokenizer, control_text=control_text)


def _proved(path: Path, tokenizer: Tokenizer, specials: Sequence[str]) -> Tables:
    tables, tokens = read_tables(path)
    reference = ReferenceEngine(tokenizer)
    tables = replace(tables, whole=_whole(BpeEngine(tables, tokenizer), reference, tokens))
    compare(BpeEngine(tables, tokenizer), reference, hard_sample(specials))
    return tables


def _whole(engine: BpeEngine, reference: ReferenceEngine, tokens: Mapping[str, int]) -> dict[str, int]:
    """The texts that the reference, but not the engine, makes one token of.

    Raises:
        Inexact: they differ on another text.
    """
    texts = list(tokens)
    ours, theirs = engine.encode(texts), reference.encode(texts)
    differ = [index for index in range(len(texts)) if not np.array_equal(ours[index], theirs[index])]
    for index in differ:
        if theirs[index].tolist() != [tokens[texts[index]]]:
            raise Inexact(f"{engine.name} differs from {reference.name} on the token {texts[index]!r}")
    return {texts[index]: tokens[texts[index]] for index in differ}


def _added_tokens(tokenizer: Tokenizer, control_text: bool) -> dict[str, int]:
    """Those that are looked for in a text before all else."""
    added = {}
    for number, token in tokenizer.get_added_tokens_decoder().items():
        if token.special and not control_text:
            continue
        if token.lstrip or token.rstrip or token.single_word or (token.normalized and tokenizer.normalizer):
            raise Unsupported(f"the added token {token.content!r} takes more than its own text")
        added[token.content] = number
    return added
