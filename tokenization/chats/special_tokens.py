"""Special tokens in text: those that a template prints, and the same characters in a message, which are only text.

A user may write *about* ``<|im_end|>``. Once the template has printed the chat, that text and the template's own look
alike, and the chat would end in the middle of a message. So what a message holds is broken by a mark, a character used
nowhere in the chat, before the template sees it. With ``*`` for the mark::

    message     say <|im_end|>
    printed     <|im_start|>user\nsay <*|im_end|><|im_end|>\n
    specials    ^^^^^^^^^^^^                    ^^^^^^^^^^
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MARKS = range(0xE000, 0xF900)
"""Unicode's private use area."""


@dataclass(frozen=True)
class SpecialToken:
    """A special token in a text: characters ``[begin, end)`` and token id."""

    begin: int
    end: int
    id: int


class SpecialTokens:
    """The special tokens of a tokenizer.

    Attributes:
        pattern: finds the text of any, the longest if several start at one place, as ``tokenizers`` does.
    """

    def __init__(self, special: Mapping[str, int]) -> None:
        self._ids = special
        texts = sorted(special, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, texts)) or r"(?!)")
        self._first_character = re.compile(f"(?=(?:{self.pattern.pattern}))(.)", re.DOTALL)
        self._texts = tuple(texts)

    def find(self, text: str) -> tuple[SpecialToken, ...]:
        """The special tokens of a text, in its order."""
        return tuple(SpecialToken(*match.span(), self._ids[match[0]]) for match in self.pattern.finditer(text))

    def end(self, text: str) -> int:
        """Where ``text`` ends without the white space after its last character, if that ends a special token."""
        stripped = text.rstrip()
        return len(stripped) if stripped.endswith(self._texts) else len(text)

    def may_join(self, left: str, right: str) -> bool:
        """Whether some text between ``left`` and ``right`` would make a special token with parts of them."""
        cuts = [(text[:cut], text[cut:]) for text in self._texts for cut in range(1, len(text))]
        return left.endswith(tuple(start for start, _ in cuts)) or right.startswith(tuple(end for _, end in cuts))

    def hide(self, value: Any) -> tuple[Any, str]:
        """JSON-like data with the text of special tokens broken, and the mark that breaks it ("" where there is none).

        Raises:
            ValueError: a special token of one character cannot be broken, or every mark is taken.
        """
        written = "\0".join(_strings(value))
        if not self.pattern.search(written):
            return value, ""
        mark = next((char for char in map(chr, MARKS) if char not in written), None)
        if mark is None:
            raise ValueError("every character of the private use area is taken")
        hidden = self._broken(value, mark)
        if self.pattern.search("\0".join(_strings(hidden))):
            raise ValueError("a special token of one character cannot be broken")
        return hidden, mark

    def _broken(self, value: Any, mark: str) -> Any:
        if isinstance(value, str):
            return self._first_character.sub(rf"\1{mark}", value)
        if isinstance(value, Mapping):
            return {self._broken(key, mark): self._broken(item, mark) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self._broken(item, mark) for item in value]
        return value


def _strings(value: Any) -> Iterator[str]:
    """All strings in JSON-like data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item)
