"""Token ids of many documents, end to end in flat arrays: no Python object a token, none a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ragged:
    """Text ``i`` has the token ids ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: (tokens,) int32.
        offsets: (texts + 1,) int64, from 0 to ``tokens``.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, text: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[text] : self.offsets[text + 1]]

    def ended(self, end: int | None) -> Ragged:
        """With this token after each text; as it is for None."""
        if end is None:
            return self
        offsets = self.offsets + np.arange(len(self.offsets))
        ids = np.full(offsets[-1], end, np.int32)
        is_text = np.ones(len(ids), np.bool_)
        is_text[offsets[1:] - 1] = False
        ids[is_text] = self.ids
        return Ragged(ids, offsets)


@dataclass(frozen=True)
class Encoded:
    """Documents as a shard takes them, each with its EOD.

    Attributes:
        ids: (tokens,) integers, documents end to end.
        lengths: (documents,) int32, tokens in each.
        mask: (tokens,) uint8, 1 where the token is a training target; None where every token is one.
    """

    ids: NDArray[np.integer[Any]]
    lengths: NDArray[np.int32]
    mask: NDArray[np.uint8] | None


def interleave(texts: Encoded, chats: Encoded, is_chat: NDArray[np.bool_]) -> Encoded:
    """Texts and chats in the order of ``is_chat``, (documents,): where True the next chat, else the next text."""
    if not is_chat.any():
        return texts
    if is_chat.all():
        return chats
    lengths = np.empty(len(is_chat), np.int32)
    lengths[is_chat], lengths[~is_chat] = chats.lengths, texts.lengths
    of_chat = np.repeat(is_chat, lengths)
    ids, mask = np.empty(len(of_chat), np.int32), np.ones(len(of_chat), np.uint8)
    ids[of_chat], ids[~of_chat] = chats.ids, texts.ids
    if chats.mask is not None:
        mask[of_chat] = chats.mask
    return Encoded(ids, lengths, mask)
