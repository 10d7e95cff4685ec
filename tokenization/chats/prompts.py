r"""The beginning of a chat as tokens: what a model is asked is what training printed before its answer.

By the same code as training (:mod:`.turns`, :mod:`.reference`), on the same fixed day::

    printed     <|im_start|>user\nA bus?<|im_end|>\n<|im_start|>assistant\n
    ends        <|im_end|>, what the template prints after an answer; and EOD
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from tokenization.chats.reference import ChatReference
from tokenization.chats.special_tokens import SpecialTokens
from tokenization.chats.turns import Turns
from tokenization.reading.rows import BadRow, ChatRow, Message, RowPlace
from tokenization.tokenizer import TokenizerFolder


class ModelChats:
    """The chats of the model whose tokenizer is in ``folder``, as training prints and encodes them.

    Raises:
        UserError: the folder has no tokenizer, or one without a chat template.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = TokenizerFolder(folder)
        if self.tokenizer.template is None:
            raise UserError(
                f"{folder}: the tokenizer has no chat template, and questions are chats; add chat_template.jinja"
            )
        special = self.tokenizer.special
        self.turns = Turns(self.tokenizer.template, SpecialTokens(special), self.tokenizer.eod_text, "train")
        self.reference = ChatReference(self.turns, self.tokenizer.tokenizer, special, self.tokenizer.facts.eod_id)

    def row(self, messages: Sequence[Message]) -> ChatRow:
        """Messages as a row, which is in no file."""
        return ChatRow("question", list(messages), None, b"{}", RowPlace(str(self.folder), 1))


class PromptEncoder:
    """Encodes chats up to where the assistant speaks next.

    Attributes:
        ends: the tokens with which the assistant ends its turn.

    Raises:
        UserError: as :class:`ModelChats`, or the template prints no assistant's turn.
    """

    def __init__(self, folder: Path) -> None:
        self._chats = ModelChats(folder)
        self.ends = frozenset({self._chats.tokenizer.facts.eod_id, *self._after_answers()})

    def encode(self, messages: Sequence[Mapping[str, str]]) -> NDArray[np.int32]:
        """(tokens,) int32.

        Raises:
            BadRow: the template refuses the messages, or special tokens in them cannot be told from text.
        """
        chat = self._chats.row([Message(**each) for each in messages])  # type: ignore[arg-type]
        return self._chats.reference.tokens(chat, self._chats.turns.prompt(chat)).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text: str = self._chats.tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _after_answers(self) -> list[int]:
        """The first special token that the template prints behind an answer, if any."""
        answer = "Yes."
        chat = self._chats.row([Message("user", "A question?"), Message("assistant", answer)])
        try:
            printed = self._chats.turns.print(chat)
        except BadRow as error:
            raise UserError(f"{self._chats.folder}: no question can be asked: {error}") from None
        begin, end = printed.spans[-1] if printed.spans else (0, 0)
        at = printed.text.rfind(answer, begin, end)
        after = [each.id for each in printed.specials if at >= 0 and at + len(answer) <= each.begin < end]
        return after[:1]
