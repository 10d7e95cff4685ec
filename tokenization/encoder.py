"""Rows of a corpus to tokens: texts by an engine, chats by their template, in the order in which they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from tokenization.documents import EngineRecord, TurnsTrained
from tokenization.encoded import Encoded, interleave
from tokenization.engines.choice import ChosenEngine, choose
from tokenization.engines.reference import ReferenceEngine
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row
from tokenization.tokenizer import CONFIG, TOKENIZER, TokenizerFolder

if TYPE_CHECKING:
    from tokenization.chats.encoder import ChatEncoder, EncodedChats


@dataclass(frozen=True)
class EncodedRows:
    """The rows that could be encoded, and why the others could not.

    Attributes:
        encoded: the documents and chats, in order.
        is_chat: (documents,) which of them are chats.
        rejected: number of the row to what is wrong with it.
        assistant_turns: how many turns of the assistant were to be targets.
        trained_turns: how many are; the template prints the others differently once later turns follow.
    """

    encoded: Encoded
    is_chat: NDArray[np.bool_]
    rejected: Mapping[int, BadRow]
    assistant_turns: int
    trained_turns: int


class RowEncoder:
    """Texts without BOS and with EOD at their end; chats as their template prints them.

    Args:
        tokenizer: the tokenizer.
        corpus_bytes: about how much there is to encode: little is not worth loading the fast engine for.
        cot: whether the assistant's ``<think>`` blocks are training targets.
        turns: whether, of its turns, only the last one of a chat is.
        special_text: whether a special token's text in a *document* becomes that token.
        why_slow: use nothing but the reference, for this reason.
    """

    def __init__(
        self,
        tokenizer: TokenizerFolder,
        corpus_bytes: int,
        cot: Literal["train", "mask"] = "train",
        turns: TurnsTrained = "as_printed",
        special_text: bool = False,
        why_slow: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self._chosen = _choose(tokenizer, corpus_bytes, special_text, why_slow)
        self._chats = self._chat_encoder(cot, turns, fast=why_slow is None)

    def _chat_encoder(self, cot: Literal["train", "mask"], turns: TurnsTrained, fast: bool) -> ChatEncoder | None:
        tokenizer = self.tokenizer
        if tokenizer.template is None:
            return None
        # Imported here: without a template a task starts without Jinja.
        from tokenization.chats.encoder import ChatEncoder

        return ChatEncoder(
            tokenizer.template,
            self._chosen.engine,
            tokenizer.tokenizer,
            tokenizer.special,
            tokenizer.facts.eod_id,
            tokenizer.eod_text,
            cot,
            turns,
            fast,
        )

    @property
    def engine(self) -> EngineRecord:
        """What encoded the texts so far."""
        chosen = self._chosen
        checked_texts = chosen.checked.checked_texts if chosen.checked else 0
        return EngineRecord(chosen.engine.name, chosen.why_not_fast, checked_texts)

    def encode(self, rows: Sequence[Row]) -> EncodedRows:
        """Tokens and loss masks of rows.

        Raises:
            UserError: there is a chat, and the tokenizer has no chat template.
            Inexact: a sampled check failed; encode everything again with ``why_slow``.
        """
        documents = [row.text for row in rows if isinstance(row, DocumentRow)]
        engine = self._chosen.checked or self._chosen.engine
        ended = engine.encode(documents, self.tokenizer.facts.eod_id)
        texts = Encoded(ended.ids, np.diff(ended.offsets).astype(np.int32), None)
        if len(documents) == len(rows):
            return EncodedRows(texts, np.zeros(len(rows), np.bool_), {}, 0, 0)
        chats = self._encode_chats([row for row in rows if isinstance(row, ChatRow)])
        is_chat = np.fromiter((isinstance(row, ChatRow) for row in rows), np.bool_, len(rows))
        row_of_chat = np.flatnonzero(is_chat)
        rejected = {int(row_of_chat[chat]): error for chat, error in chats.rejected.items()}
        kept = np.delete(is_chat, list(rejected))
        encoded = interleave(texts, chats.encoded, kept)
        return EncodedRows(encoded, kept, rejected, chats.assistant_turns, chats.trained_turns)

    def _encode_chats(self, chats: Sequence[ChatRow]) -> EncodedChats:
        if self._chats is None:
            raise UserError(
                f"{self.tokenizer.path}/{CONFIG}: chat_template: missing, and {chats[0].place} is a chat; add one"
            )
        return self._chats.encode(chats)


def _choose(tokenizer: TokenizerFolder, corpus_bytes: int, special_text: bool, why_slow: str | None) -> ChosenEngine:
    if why_slow is not None:
        return ChosenEngine(ReferenceEngine(tokenizer.tokenizer, special_text=special_text), None, why_slow)
    path = tokenizer.path / TOKENIZER
    return choose(path, tokenizer.tokenizer, corpus_bytes, list(tokenizer.special), special_text)
