r"""What the tokens of a vocabulary look like inside a text.

A byte-level vocabulary, as GPT-2 began it, writes each byte as a character that can be printed: a space is ``Ġ``, and
``é``, which is the bytes C3 A9, is ``Ã©``. So the texts of its tokens follow from ``tokenizer.json`` alone, in a tenth
of the time that building the tokenizer takes. For any other vocabulary Hugging Face ``tokenizers`` is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenization.tokenizer import TOKENIZER, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = sorted(set(range(0x100)) - set(_PRINTED))
_BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + place): byte for place, byte in enumerate(_OTHERS)}
"""The byte that each character stands for (``bytes_char`` in ``tokenizers``, src/pre_tokenizers/byte_level.rs)."""


@dataclass(frozen=True)
class TokenTexts:
    """Some tokens of a vocabulary.

    Attributes:
        texts: of each; what is not a whole character is U+FFFD.
        inside: (tokens,) whether it begins inside a character, of which the token before it has the first byte.
    """

    texts: list[str]
    inside: NDArray[np.bool_]


class _Typed(msgspec.Struct):
    type: str


class _AddedToken(msgspec.Struct):
    id: int
    content: str


class _Model(msgspec.Struct):
    vocab: dict[str, int]


class _ByteLevel(msgspec.Struct):
    model: _Model
    decoder: _Typed | None = None
    added_tokens: list[_AddedToken] = []


def token_texts(folder: Path, tokens: NDArray[np.int64]) -> TokenTexts:
    """The texts of tokens.

    Args:
        folder: a Hugging Face folder with ``tokenizer.json``.
        tokens: (tokens,) ids.

    Raises:
        UserError: the folder has no tokenizer, or one that cannot be read.
    """
    names = _byte_level_names(folder / TOKENIZER)
    if names is None:
        return _decoded(load_tokenizer(folder / TOKENIZER), tokens.tolist())
    written = [_bytes(names[token]) for token in tokens.tolist()]
    # UTF-8 continues a character with bytes 80 to BF.
    inside = np.fromiter((b"\x80" <= text[:1] < b"\xc0" for text in written), np.bool_, len(written))
    return TokenTexts([text.decode(errors="replace") for text in written], inside)


def _byte_level_names(path: Path) -> Mapping[int, str] | None:
    """Token id to what the vocabulary calls it; None where it is not byte-level."""
    try:
        tokenizer = msgspec.json.decode(path.read_bytes(), type=_ByteLevel)
    except (OSError, msgspec.MsgspecError):
        return None  # the other way says what is wrong with it, or takes it
    if tokenizer.decoder is None or tokenizer.decoder.type != "ByteLevel":
        return None
    names = {number: name for name, number in tokenizer.model.vocab.items()}
    return names | {token.id: token.content for token in tokenizer.added_tokens}


def _bytes(name: str) -> bytes:
    try:
        return bytes(map(_BYTE_OF.__getitem__, name))
    except KeyError:
        return name.encode()  # an added token stands for itself


def _decoded(tokenizer: Tokenizer, tokens: list[int]) -> TokenTexts:
    """The texts of tokens by the tokenizer's own decoder.

    Alone a token would not do: many decoders strip the space before the first one. So each is decoded after an ``a``.
    A vocabulary of whole words has no spaces in its tokens; its decoder puts one before each, so each begins a word.
    """
    anchor = tokenizer.encode("a", add_special_tokens=False).ids[-1:] or [0]
    prefix = tokenizer.decode(anchor, skip_special_tokens=False)
    decoded = tokenizer.decode_batch([[*anchor, token] for token in tokens], skip_special_tokens=False)
    texts = [text.removeprefix(prefix) for text in decoded]
    inside = np.zeros(len(tokens), np.bool_)
    inside[_inside_a_character(tokenizer, tokens, texts)] = True
    return TokenTexts(texts, inside)


def _inside_a_character(tokenizer: Tokenizer, tokens: list[int], texts: list[str]) -> list[int]:
    """The places of the tokens that begin with a byte that continues a character: after the byte C3 it makes one whole.

    Vocabularies write that byte as ``Ã`` (byte-level) or ``<0xC3>`` (byte fallback), or have no parts of characters.
    """
    broken = [place for place, text in enumerate(texts) if text.startswith("\ufffd")]
    found = (tokenizer.token_to_id(name) for name in ("Ã", "<0xC3>"))
    lead = next((number for number in found if number is not None), None)
    if lead is None:
        return []
    pairs = tokenizer.decode_batch([[lead, tokens[place]] for place in broken], skip_special_tokens=False)
    return [place for place, text in zip(broken, pairs, strict=True) if not text.startswith("\ufffd")]
