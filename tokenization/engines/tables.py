"""What the program needs to know of a tokenizer, read from its ``tokenizer.json`` and asked of the reference."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Regex, normalizers

CODE_POINTS = 0x110000
LARGEST_TOKEN = (1 << 28) - 1
_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DIGITS = {_PATTERN % "{1,3}": 3, _PATTERN % "": 1}
_KINDS = {1: r"\p{L}", 2: r"\p{N}", 3: r"\s", 4: r"[\r\n]"}
"""Of ``Kind`` in ``words.hpp``; a later one is right where two hold."""
_PLANES = 0x20000
"""There are hardly any texts beyond the first two planes."""
_MARK = "\U0010ffff"
"""Stands for what was found; no pattern finds it."""
_USUAL: Mapping[str, tuple[object, ...]] = {
    "type": ("BPE",),
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
}


class Unsupported(ValueError):
    """A tokenizer of another family; the message says in what it differs."""


@dataclass(frozen=True)
class Tables:
    """A tokenizer of the family.

    Attributes:
        kinds: (0x110000,) uint8, what each code point is, and whether a text with it may not be in normal form C.
        byte_tokens: (256,) int32, the token of each byte.
        merges: (merges, 3) int32: left token, right token, what they join to; the first has the lowest rank.
        digits: how many numbers make one word at most.
        whole: texts that are one token as a word, though the merges do not lead there; only with ``ignore_merges``.
    """

    kinds: NDArray[np.uint8]
    byte_tokens: NDArray[np.int32]
    merges: NDArray[np.int32]
    digits: int
    whole: Mapping[str, int]


@dataclass(frozen=True)
class Vocabulary:
    """The texts that are tokens; parts of characters are not.

    Attributes:
        tokens: text to token.
        ignore_merges: whether a word that is a token becomes it at once.
    """

    tokens: Mapping[str, int]
    ignore_merges: bool


def read_tables(path: Path) -> tuple[Tables, Vocabulary]:
    """The tables of a ``tokenizer.json``, ``whole`` left empty, and its vocabulary.

    Raises:
        Unsupported: it is not of the family.
    """
    file = orjson.loads(path.read_bytes())
    digits = _digits(file.get("pre_tokenizer"))
    model = file["model"]
    for field, usual in _USUAL.items():
        if model.get(field) not in usual:
            raise Unsupported(f"model.{field} is {model.get(field)!r}")
    if file.get("normalizer") not in (None, {"type": "NFC"}):
        raise Unsupported("its normalizer is not NFC")
    vocabulary: dict[str, int] = model["vocab"]
    characters = _byte_characters()
    if missing := [byte for byte, character in enumerate(characters) if character not in vocabulary]:
        raise Unsupported(f"byte {missing[0]} has no token")
    if max(vocabulary.values()) > LARGEST_TOKEN:
        raise Unsupported("its tokens have too many bits")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges = [
        (vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in pairs if left != "#version:"
    ]
    tables = Tables(
        kinds=_kinds() | _perhaps_not_normal(),
        byte_tokens=np.array([vocabulary[character] for character in characters], np.int32),
        merges=np.array(merges, np.int32).reshape(-1, 3),
        digits=digits,
        whole={},
    )
    return tables, Vocabulary(_texts(vocabulary, characters), bool(model.get("ignore_merges")))


def _digits(splits: Any) -> int:
    """How many numbers make a word, where words are split as ``words.hpp`` does."""
    match splits:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern in _DIGITS:
            return _DIGITS[pattern]
    raise Unsupported("its pre-tokenizer is not that of Llama-3 or Qwen")


def _byte_characters() -> list[str]:
    """The character by which a ``tokenizer.json`` writes each byte, as GPT-2 did: itself where it can be seen."""
    seen = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = (chr(256 + number) for number in range(256 - len(seen)))
    return [chr(byte) if byte in seen else next(others) for byte in range(256)]


def _texts(vocabulary: Mapping[str, int], characters: Sequence[str]) -> dict[str, int]:
    table = {ord(character): byte for byte, character in enumerate(characters)}
    texts = {}
    for token, number in vocabulary.items():
        try:
            texts[bytes(table[ord(character)] for character in token).decode()] = number
        except (KeyError, UnicodeDecodeError):  # an added token, or a part of a character
            continue
    return texts


def _kinds() -> NDArray[np.uint8]:
    """As the regular expressions of the reference see each code point, whatever its version of Unicode."""
    points = np.array([point for point in range(CODE_POINTS) if not 0xD800 <= point < 0xE000], np.uint32)
    every = points.astype("<u4").tobytes().decode("utf-32-le")
    kinds = np.zeros(CODE_POINTS, np.uint8)
    for kind, pattern in _KINDS.items():
        marked = normalizers.Replace(Regex(pattern), _MARK).normalize_str(every)
        kinds[points[np.frombuffer(marked.encode("utf-32-le"), "<u4") != points]] = kind
    return kinds


def _perhaps_not_normal() -> NDArray[np.uint8]:
    """(0x110000,) 0x80 where a code point is changed by normal form C or may be joined with or moved before another.

    A text without such a one is in normal form C (Unicode Standard Annex 15, "Detecting Normalization Forms").
    """
    marks = np.full(CODE_POINTS, 0x80, np.uint8)
    seconds = {*map(chr, range(0x1161, 0x1176)), *map(chr, range(0x11A8, 0x11C3))}  # of Hangul syllables
    others = []
    for point in range(_PLANES):
        char = chr(point)
        parts = unicodedata.decomposition(char).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
        if not unicodedata.combining(char) and unicodedata.is_normalized("NFC", char) and _is_known(char):
            others.append(point)
    marks[others] = 0
    marks[list(map(ord, seconds))] = 0x80
    return marks


def _is_known(char: str) -> bool:
    """Whether Python's version of Unicode knows the character; of another it knows not how it is normalised."""
    return unicodedata.category(char) != "Cn"
