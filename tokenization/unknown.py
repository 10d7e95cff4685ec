"""Text that a tokenizer does not know: it becomes one and the same token, or none, and what it said is lost.

A byte-level tokenizer knows every text. One of whole words or characters knows what it was trained on; that of the
demo's toy world knows 218 words. What is trained on the rest is nonsense that looks clean.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from msm_hpc.base.errors import UserError
from tokenization.tokenizer import TokenizerFolder

MOST_UNKNOWN = 0.02
"""A larger share of unknown tokens, or of characters in a sample of the text, is refused."""
FIRST_TEXTS, LATER_TEXTS, CHARACTERS = 32, 4, 1_000
"""Of the sample: so many texts of the first ones that are given, of all later ones, and of each its beginning."""


def check_known(tokenizer: TokenizerFolder, unknown: int, tokens: int, who: str | None = None) -> None:
    """Check how many ``tokens`` of a text are ``unknown``; ``who`` as in :class:`SampleCheck`.

    Raises:
        UserError: more than :data:`MOST_UNKNOWN` of them.
    """
    if unknown > MOST_UNKNOWN * tokens:
        what = f"{unknown:,} of {tokens:,} tokens ({unknown / tokens:.1%}) are its unknown token"
        raise _lost(who or f"{tokenizer.path}:", what)


def check_sample(tokenizer: TokenizerFolder, texts: Sequence[str], who: str | None = None) -> None:
    """Check a sample of texts that are all there; see :class:`SampleCheck`."""
    SampleCheck(tokenizer, who).check(texts)


class SampleCheck:
    """Checks the beginnings of a sample of the texts of each batch, all batches so far taken together.

    Only so is it seen that text is lost where there is no unknown token to be counted.
    """

    def __init__(self, tokenizer: TokenizerFolder, who: str | None = None) -> None:
        """``who`` does not know the text, for the message: by default the tokenizer's folder."""
        self._tokenizer, self._who = tokenizer, who or f"{tokenizer.path}:"
        self._seen, self._lost = 0, Counter[str]()

    def check(self, texts: Sequence[str]) -> None:
        """Add the texts of a batch to the sample, and check it.

        Raises:
            UserError: more than :data:`MOST_UNKNOWN` of its characters are in unknown tokens, or in none.
        """
        step = max(1, math.ceil(len(texts) / (LATER_TEXTS if self._seen else FIRST_TEXTS)))
        texts = [text[:CHARACTERS] for text in texts[::step]]
        tokenizer = self._tokenizer.tokenizer
        tokenizer.encode_special_tokens = True
        for text, encoding in zip(texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True):
            known = bytearray(len(text))
            for number, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True):
                if number != self._tokenizer.unknown_id:
                    known[begin:end] = b"\1" * (end - begin)
            self._seen += sum(not character.isspace() for character in text)
            self._lost.update(
                character
                for character, is_known in zip(text, known, strict=True)
                if not (is_known or character.isspace())
            )
        if (lost := self._lost.total()) > MOST_UNKNOWN * self._seen:
            some = "".join(self._lost)[:20]
            raise _lost(self._who, f"{lost / self._seen:.1%} of the characters of a sample are lost ({some!r})")


def _lost(who: str, what: str) -> UserError:
    return UserError(
        f"{who} does not know this text: {what}, more than {MOST_UNKNOWN:.0%}; take a tokenizer that was trained on "
        "such text, or a byte-level one, as published models have (in a campaign: model=smollm2_135m or another; or, "
        "for a model from scratch, generate.vocabulary=4096, which trains one on your texts)"
    )
