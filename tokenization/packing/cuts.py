"""Where a text longer than a row is cut: at the last sentence end that fits.

Shards hold tokens and no text, so the decision is made on tokens. Each token that the long texts use is looked at
once, for how its text begins and how it ends. Between two neighbours, how one *ends* and how the next *begins* tell how
good a cut is there::

    The| cheese| (|St|ilton|).| It| costs| £|3|.|50| a|\\n|p|ound|.\\n\\n|Eat
       2        2  1  1     1  4   2      2  1 1 1  2  1  3 1    1       4

A cut is best, 4, after a sentence or paragraph, then after a line, then between words, 2, and then between characters
(a byte-level token may be a part of one). Of the best cuts in the second half of the row the last one is taken.
"""

# ruff: noqa: RUF001  (closing quotes and wide marks are meant)

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenization.packing.token_texts import token_texts

_PLAIN = 0
_CLOSING, _SENTENCE, _WIDE, _LINE, _PARAGRAPH = 1, 2, 3, 4, 5
_CLOSERS = r"['\"’”»」』）】》)\]*_]"
_ENDS = (
    (_PARAGRAPH, re.compile(rf"(\n\s*|[.!?…。！？]{_CLOSERS}*\s*)\n[ \t]*\Z")),
    (_LINE, re.compile(r"\n[ \t]*\Z")),
    (_WIDE, re.compile(rf"[。！？]{_CLOSERS}*\Z")),
    (_SENTENCE, re.compile(rf"[.!?…]{_CLOSERS}*\s*\Z")),
    (_CLOSING, re.compile(rf"\A{_CLOSERS}+\Z")),
)
"""How a token's text may end. Wide marks end a sentence with no space after them."""

_STAYS, _WORD, _NEW, _INSIDE = 1, 2, 3, 4
_BEGINS = (
    (_STAYS, re.compile(r"\A(\s*\n|[.!?…。！？’”»」』）】》)\]}])")),
    (_WORD, re.compile(r"\A\s+[a-zß-öø-ÿа-яα-ω]")),
    (_NEW, re.compile(r"\A\s")),
)
"""How it may begin: with what belongs to the text before it, with a word in small letters, with any other word; or
inside a character, of which the token before it holds the first byte."""

_QUALITY = np.array(
    # plain stays word new inside: how the next token begins
    [
        [1, 1, 2, 2, 0],  # plain: how the token before it ends
        [1, 1, 2, 2, 0],  # closing
        [1, 1, 2, 4, 0],  # sentence; not before small letters, as in "e.g. this"
        [4, 1, 4, 4, 0],  # wide
        [3, 1, 3, 3, 0],  # line
        [4, 1, 4, 4, 0],  # paragraph
    ],
    np.uint8,
)

_CONTEXT = 3
"""Tokens that the quality of a cut depends on: a line end, after a closing mark, after a sentence."""


@dataclass(frozen=True)
class Cutter:
    """Tokens by how their texts end and begin.

    Attributes:
        ends: (token ids,) uint8, up to the largest id in use.
        begins: (token ids,) uint8.
    """

    ends: NDArray[np.uint8]
    begins: NDArray[np.uint8]

    @classmethod
    def load(cls, folder: Path, used: NDArray[np.int64]) -> Cutter:
        """Looks at some tokens of a vocabulary.

        Args:
            folder: a Hugging Face folder with ``tokenizer.json``.
            used: (tokens,) ids of every token that is in the texts to cut.

        Raises:
            UserError: the folder has no tokenizer, or one that cannot be read.
        """
        tokens = token_texts(folder, used)
        ends, begins = np.zeros((2, int(used.max()) + 1), np.uint8)
        ends[used], begins[used] = _classes(tokens.texts, -1, _ENDS), _classes(tokens.texts, 0, _BEGINS)
        begins[used[tokens.inside]] = _INSIDE
        return cls(ends, begins)

    def cut(self, tokens: NDArray[np.integer[Any]], longest: int) -> list[int]:
        """Cut a text.

        Args:
            tokens: (length,) ids, ``length > longest``; the last is EOD, and stays with the token before it.
            longest: most tokens in a piece, at least 2.

        Returns:
            Where each piece starts, the first at 0.
        """
        starts = [0]
        while len(tokens) - starts[-1] > longest:
            # Cuts [first, last] are looked at: the second half of the row, EOD and the token before it left together.
            last = min(starts[-1] + longest, len(tokens) - 2)
            first = last - longest // 2 + 1
            quality = self._quality(tokens[max(first - _CONTEXT, 0) : last + 1])
            # argmax takes the first of equals: from the end, the last of the best cuts.
            starts.append(last - int(np.argmax(quality[-(longest // 2) :][::-1])))
        return starts

    def _quality(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """(length,) how good a cut before each token is, 1 to 4; 0 before the first and within a character."""
        ends = self._ends_in_context(tokens)
        # The cut before token i depends on how token i - 1 ends and how token i begins.
        quality = np.zeros(len(tokens), np.uint8)
        quality[1:] = _QUALITY[ends[:-1], self.begins[tokens[1:]]]
        return quality

    def _ends_in_context(self, tokens: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Marks that close a sentence end it, a line that ends with a sentence or is empty ends a paragraph."""
        ends: NDArray[np.uint8] = self.ends[tokens]
        before, own = ends[:-1], ends[1:]  # views: what is written to one is seen by the other
        sentence = (before == _SENTENCE) | (before == _WIDE)
        closing = (own == _CLOSING) & sentence
        own[closing] = before[closing]
        sentence = (before == _SENTENCE) | (before == _WIDE)
        own[(own == _LINE) & (sentence | (before == _LINE))] = _PARAGRAPH
        return ends


def _classes(texts: list[str], edge: int, rules: tuple[tuple[int, re.Pattern[str]], ...]) -> NDArray[np.uint8]:
    """The class of each text: of the first rule that it matches, else plain.

    No rule matches a text with a letter or digit at its ``edge``, and most texts have one: they are not looked at.
    """
    found = (
        _PLAIN
        if text[edge : edge + 1 or None].isalnum()
        else next((kind for kind, pattern in rules if pattern.search(text)), _PLAIN)
        for text in texts
    )
    return np.fromiter(found, np.uint8, len(texts))
