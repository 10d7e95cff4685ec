"""The reference for chats: exact for any template, by Hugging Face ``tokenizers``, and slow.

The printed chat is encoded whole, and each token is asked where in the text it begins: it is a target where its first
character is the assistant's. Where messages hold the text of special tokens the chat is cut at those of the template,
and the pieces are encoded as ordinary text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokenization.chats.turns import Printed, Turns
from tokenization.reading.rows import BadRow, ChatRow

_Part: TypeAlias = tuple[list[int], list[tuple[int, int]]]


@dataclass(frozen=True)
class EncodedChat:
    """A chat with its EOD.

    Attributes:
        ids: (length,) int32.
        mask: (length,) uint8, 1 for a training target.
        turns: of the assistant, that were to be trained on.
        trained_turns: those that are.
    """

    ids: NDArray[np.int32]
    mask: NDArray[np.uint8]
    turns: int
    trained_turns: int


@dataclass(frozen=True)
class Tokens:
    """A text as (tokens,) arrays: ids, and the characters ``[begin, end)`` of the text that each stands for."""

    ids: NDArray[np.int32]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


class ChatReference:
    """Encodes one chat.

    Attributes:
        may_cut: whether text may be cut at special tokens and encoded piece by piece.
    """

    def __init__(self, turns: Turns, tokenizer: Tokenizer, special: Mapping[str, int], eod_id: int) -> None:
        """``tokenizer`` has no post-processor, which might move the beginnings of tokens."""
        self._turns, self._tokenizer, self._eod_id = turns, tokenizer, eod_id
        self.may_cut = _are_borders(tokenizer, special)

    def encode(self, chat: ChatRow) -> EncodedChat:
        """Tokens and loss mask.

        Raises:
            BadRow: the template refuses the chat or would lose a part of it, or no token is a target.
        """
        printed = self._turns.print(chat)
        tokens = self.tokens(chat, printed)
        ids, begins = tokens.ids, tokens.begins
        mask = np.zeros(len(ids), np.uint8)
        for begin, end in printed.spans:
            mask[(begins >= begin) & (begins < end)] = 1
        if not mask.any():
            count = printed.turns - printed.trained_turns
            rewritten = f" ({count} turns are printed differently from how they are prompted)" if count else ""
            what = f"messages: no token of chat {chat.id!r} is a training target{rewritten}; remove the row"
            raise BadRow("untrainable", chat.place, what)
        if ids[-1] != self._eod_id:
            ids, mask = np.append(ids, np.int32(self._eod_id)), np.append(mask, np.uint8(printed.eod_is_target))
        return EncodedChat(ids, mask, printed.turns, printed.trained_turns)

    def tokens(self, chat: ChatRow, printed: Printed) -> Tokens:
        """The tokens of a printed chat, without an EOD that the template does not print.

        Raises:
            BadRow: messages hold the text of a special token, and this tokenizer cannot encode that as text.
        """
        if not printed.mentions_specials:
            return _joined([self._encode(printed.text, 0, as_text=False)])
        if not self.may_cut:
            what = "messages: hold the text of a special token, which this tokenizer cannot encode as text; remove it"
            raise BadRow("special", chat.place, what)
        parts, start = [], 0
        for special in printed.specials:
            parts.append(self._encode(printed.text[start : special.begin], start, as_text=True))
            parts.append(([special.id], [(special.begin, special.end)]))
            start = special.end
        return _joined([*parts, self._encode(printed.text[start:], start, as_text=True)])

    def _encode(self, text: str, start: int, as_text: bool) -> _Part:
        """The ids of a text that starts at character ``start``, and where each lies."""
        self._tokenizer.encode_special_tokens = as_text
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, [(start + begin, start + end) for begin, end in encoding.offsets]


def _joined(parts: Sequence[_Part]) -> Tokens:
    ids = np.array([number for numbers, _ in parts for number in numbers], np.int32)
    spans = np.array([span for _, spans in parts for span in spans], np.int64).reshape(-1, 2)
    return Tokens(ids, spans[:, 0], spans[:, 1])


def _are_borders(tokenizer: Tokenizer, special: Mapping[str, int]) -> bool:
    """Whether a text may be cut at its special tokens and the pieces encoded one by one.

    It may not where a special token takes the white space around it, or is searched for in normalised text, or where
    the first word of a text is encoded differently from the same word further on.
    """
    if any(token.normalized for token in tokenizer.get_added_tokens_decoder().values() if token.special):
        return False
    pieces = ("a", " b ", "\n\nc\n", " ")
    tokenizer.encode_special_tokens = True
    alone = [tokenizer.encode(piece, add_special_tokens=False).ids for piece in pieces]
    expected = alone[0] + [number for token in special.values() for ids in alone for number in (token, *ids)]
    tokenizer.encode_special_tokens = False
    text = pieces[0] + "".join(token + piece for token in special for piece in pieces)
    return tokenizer.encode(text, add_special_tokens=False).ids == expected
