"""Text that a tokenizer does not know: it becomes one and the same token, or none, and what it said is lost.

A byte-level tokenizer knows every text. One of whole words or characters knows what it was trained on; that of the
demo's toy world knows 218 words. What is trained on the rest is nonsense that looks clean.
"""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.base.errors import UserError
from tokenization.tokenizer import TokenizerFolder

MOST_UNKNOWN = 0.02
"""A larger share of unknown tokens, or of characters in a sample of the text, is refused."""
TEXTS, CHARACTERS = 32, 1_000
"""Of the sample: so many texts, and of each its beginning."""


def check_known(tokenizer: TokenizerFolder, unknown: int, tokens: int) -> None:
    """Check how many ``tokens`` of a text are ``unknown``.

    Raises:
        UserError: more than :data:`MOST_UNKNOWN` of them.
    """
    if unknown > MOST_UNKNOWN * tokens:
        raise _lost(tokenizer, f"{unknown:,} of {tokens:,} tokens ({unknown / tokens:.1%}) are its unknown token")


def check_sample(tokenizer: TokenizerFolder, texts: Sequence[str]) -> None:
    """Check the beginnings of the first texts.

    Raises:
        UserError: more than :data:`MOST_UNKNOWN` of their characters are in unknown tokens, or in none.
    """
    texts = [text[:CHARACTERS] for text in texts[:TEXTS]]
    tokenizer.tokenizer.encode_special_tokens = True
    lost, seen = [], 0
    for text, encoding in zip(texts, tokenizer.tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
        known = bytearray(len(text))
        for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if number != tokenizer.unknown_id:
                known[begin:end] = b"\1" * (end - begin)
        seen += sum(not character.isspace() for character in text)
        lost += [
            character for character, is_known in zip(text, known, strict=True) if not (is_known or character.isspace())
        ]
    if len(lost) > MOST_UNKNOWN * seen:
        some = "".join(dict.fromkeys(lost))[:20]
        raise _lost(tokenizer, f"{len(lost) / seen:.1%} of the characters of a sample are lost ({some!r})")


def _lost(tokenizer: TokenizerFolder, what: str) -> UserError:
    return UserError(
        f"{tokenizer.path}: does not know this text: {what}, more than {MOST_UNKNOWN:.0%}; take a tokenizer that was "
        "trained on such text, or a byte-level one, as published models have (the demo's model=tiny knows the words of "
        "its toy world alone)"
    )
