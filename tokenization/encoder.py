"""Rows of a corpus to tokens: texts by an engine, chats by their template, in the order in which they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tokenization.documents import EngineRecord
from tokenization.encoded import Encoded, interleave
from tokenization.engines.choice import Choice, choose
from tokenization.engines.reference import ReferenceEngine
from tokenization.errors import BadInput
from tokenization.reading.rows import BadRow, Chat, Document, Row
from tokenization.tokenizer import TokenizerFolder
from tokenization.tokenizer_file import CONFIG, TOKENIZER

if TYPE_CHECKING:
    from tokenization.chats.encoder import ChatEncoder, EncodedChats


@dataclass(frozen=True)
class EncodedRows:
    """The rows that could be encoded, and why the others could not.

    Attributes:
        encoded: the documents and chats, in order.
        is_chat: (documents,) which of them are chats.
        rejected: number of the row to what is wrong with it.
        rewritten_turns: assistant turns that the template prints otherwise once later turns follow; not trained on.
    """

    encoded: Encoded
    is_chat: NDArray[np.bool_]
    rejected: Mapping[int, BadRow]
    rewritten_turns: int


class RowEncoder:
    """Texts without BOS and with EOD at their end; chats as their template prints them.

    Args:
        tokenizer: the tokenizer.
        corpus_bytes: about how much there is to encode: little is not worth loading the fast engine for.
        cot: whether the assistant's ``<think>`` blocks are training targets.
        control_text: whether a control token's text in a *document* becomes that token.
        why_slow: use nothing but the reference, for this reason.
    """

    def __init__(
        self,
        tokenizer: TokenizerFolder,
        corpus_bytes: int,
        cot: Literal["train", "mask"] = "train",
        control_text: bool = False,
        why_slow: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._choice = _choose(tokenizer, corpus_bytes, control_text, why_slow)
        self._chats = self._chat_encoder(cot, fast=why_slow is None)

    def _chat_encoder(self, cot: Literal["train", "mask"], fast: bool) -> ChatEncoder | None:
        tokenizer = self.tokenizer
        if tokenizer.template is None:
            return None
        # Imported here: without a template a task starts without Jinja.
        from tokenization.chats.encoder import ChatEncoder

        return ChatEncoder(
            tokenizer.template,
            self._choice.engine,
            tokenizer.tokenizer,
            tokenizer.special,
            tokenizer.facts.eod_id,
            tokenizer.eod_text,
            cot,
            fast,
        )

    @property
    def engine(self) -> EngineRecord:
        """What encoded the texts so far."""
        choice = self._choice
        checked_texts = choice.checked.checked_texts if choice.checked else 0
        return EngineRecord(choice.engine.name, choice.why_not_fast, checked_texts)

    def encode(self, rows: Sequence[Row]) -> EncodedRows:
        """Tokens and loss masks of rows.

        Raises:
            BadInput: there is a chat, and the tokenizer has no chat template.
            Inexact: a sampled check failed; encode everything again with ``why_slow``.
        """
        documents = [row.text for row in rows if isinstance(row, Document)]
        engine = self._choice.checked or self._choice.engine
        ended = engine.encode(documents, self.tokenizer.facts.eod_id)
        texts = Encoded(ended.ids, np.diff(ended.offsets).astype(np.int32), None)
        if len(documents) == len(rows):
            return EncodedRows(texts, np.zeros(len(rows), np.bool_), {}, 0)
        chats = self._encode_chats([row for row in rows if isinstance(row, Chat)])
        is_chat = np.fromiter((isinstance(row, Chat) for row in rows), np.bool_, len(rows))
        row_of_chat = np.flatnonzero(is_chat)
        rejected = {int(row_of_chat[chat]): error for chat, error in chats.rejected.items()}
        kept = np.delete(is_chat, list(rejected))
        return EncodedRows(interleave(texts, chats.encoded, kept), kept, rejected, chats.rewritten_turns)

    def _encode_chats(self, chats: Sequence[Chat]) -> EncodedChats:
        if self._chats is None:
            raise BadInput(
                f"{self.tokenizer.path}/{CONFIG}: chat_template: missing, and {chats[0].place} is a chat; add one"
            )
        return self._chats.encode(chats)


def _choose(tokenizer: TokenizerFolder, corpus_bytes: int, control_text: bool, why_slow: str | None) -> Choice:
    if why_slow is not None:
        return Choice(ReferenceEngine(tokenizer.tokenizer, control_text=control_text), None, why_slow)
    path = tokenizer.path / TOKENIZER
    return choose(path, tokenizer.tokenizer, corpus_bytes, list(tokenizer.special), control_text)
