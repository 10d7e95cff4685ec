r"""A question and its answer as tokens: what an evaluation scores is what training would train on.

A model learns an answer where its chat template prints it: after Qwen3's empty ``<think>``, after Llama 2's space,
below a date that does not change. So that no answer is scored where training never put one, question and answer are
printed and encoded as the chat that training would make of them, by the same code (:mod:`.turns`, :mod:`.reference`),
and of its targets those are scored that hold the answer's own characters::

    printed     <|im_start|>assistant\n<think>\n\n</think>\n\nA bus.<|im_end|>\n
    trained on                         ------------------------------------
    scored                                                    ------
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from tokenization.chats.prompts import ModelChats
from tokenization.chats.turns import Printed, Span
from tokenization.reading.rows import BadRow, Message


@dataclass(frozen=True)
class AnsweredQuestion:
    """A chat up to the end of the answer: (tokens,) int32 ids, of which those from ``start`` on are the answer's."""

    ids: NDArray[np.int32]
    start: int


class AnswerEncoder:
    """Encodes questions with their answers, for the model whose tokenizer is in ``folder``.

    Raises:
        UserError: the folder has no tokenizer, or one without a chat template.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._chats = ModelChats(folder)
        self.tokenizer = self._chats.tokenizer

    def encode(self, question: str, answer: str, system: str = "") -> AnsweredQuestion:
        """The chat of a user who asks ``question`` and an assistant who gives ``answer``, after a system turn if any.

        Raises:
            UserError: the template refuses the chat or prints the answer in another form, or the tokenizer does not
                separate what is before the answer from it.
        """
        before = [Message("system", system)] if system else []
        chat = self._chats.row([*before, Message("user", question), Message("assistant", answer)])
        try:
            printed = self._chats.turns.print(chat)
            tokens = self._chats.reference.tokens(chat, printed)
        except BadRow as error:
            raise UserError(f"{self._folder}: the question {question!r} cannot be asked: {error}") from None
        begin, end = self._answer(printed, answer)
        scored = np.flatnonzero((tokens.ends > begin) & (tokens.begins < end))
        if tokens.begins[scored[0]] < printed.spans[-1][0]:
            raise UserError(
                f"{self._folder}: the tokenizer does not separate the chat template's generation prompt from the "
                f"answer in {printed.text[max(begin - 20, 0) : end]!r}: fix the chat template or eval.answer"
            )
        return AnsweredQuestion(tokens.ids[: scored[-1] + 1], int(scored[0]))

    def _answer(self, printed: Printed, answer: str) -> Span:
        """Where the answer lies in what the assistant is to produce; many templates strip white space."""
        if printed.spans:
            for text in (answer, answer.strip()):
                if (begin := printed.text.rfind(text, *printed.spans[-1])) >= 0:
                    return begin, begin + len(text)
        raise UserError(
            f"{self._folder}: the chat template prints {answer!r}, an assistant's answer, as {printed.text!r}: not as "
            "what the assistant is to produce, so that no chat can be trained on it; fix the chat template"
        )
