"""Which characters of a printed chat the assistant wrote.

A chat template does not say who wrote which part of what it prints. Two printings do: for the chat ``[user hi,
assistant yo]`` in ChatML::

    before = print([user hi], with the beginning of an answer)     <user>hi<end>\\n<assistant>
    after  = print([user hi, assistant yo])                        <user>hi<end>\\n<assistant>yo<end>\\n

What ``after`` has beyond ``before`` is what the model is to produce: ``yo<end>``. The white space after the last
special token is not, since generation stops at ``<end>``.

That holds only where each printing begins with the one before. Some templates print a turn in another way once later
turns are there (Qwen3 drops its reasoning). A model asked for that turn would have to produce what it printed *then*,
so such a turn is not trained: it is counted, and the last turn, which nothing follows, still is. To train all of them,
each is made the last turn of a chat of its own (``tokenize.by_turn``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from tokenization.chats.special_tokens import SpecialToken, SpecialTokens
from tokenization.chats.template import TemplateRefuses
from tokenization.documents import TurnsTrained
from tokenization.reading.rows import BadRow, ChatRow

Span = tuple[int, int]
_THOUGHT = re.compile(r"<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
_OPEN_THOUGHT = re.compile(r"<think>\s*\Z")


class Printer(Protocol):
    """A chat template, or one that prints placeholders for the contents (:mod:`.tracing`)."""

    @property
    def source(self) -> str:
        """Its text."""
        ...

    def print(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        prompt: bool = False,
        speaker: str | None = None,
    ) -> str:
        """The text of a chat."""
        ...

    def begins(self, text: str, start: str) -> bool:
        """Whether a printed ``text`` begins with ``start``."""
        ...


@dataclass(frozen=True)
class Printed:
    """A chat as text, up to its end of document.

    Attributes:
        text: what the template prints.
        specials: the special tokens that the template printed, in order.
        spans: characters ``[begin, end)`` that the assistant is to produce, in order.
        eod_is_target: whether the end of document after the text is to be produced too.
        turns: how many turns of the assistant were to be trained on.
        trained_turns: how many are; the template prints the others differently once later turns follow.
        mentions_specials: whether messages hold the text of special tokens, which is only text.
    """

    text: str
    specials: tuple[SpecialToken, ...]
    spans: tuple[Span, ...]
    eod_is_target: bool
    turns: int
    trained_turns: int
    mentions_specials: bool


@dataclass(frozen=True)
class Turns:
    """Prints chats and finds the assistant's part.

    Attributes:
        eod_text: the token that ends documents; a chat that the template ends with it keeps no white space after it.
        cot: ``mask`` leaves ``<think>…</think>`` and the white space after it out of the assistant's part.
        trained: with ``each_by_its_prefix`` only the last turn of a chat is the assistant's part.
    """

    template: Printer
    specials: SpecialTokens
    eod_text: str
    cot: Literal["train", "mask"]
    trained: TurnsTrained = "as_printed"

    def print(self, chat: ChatRow) -> Printed:
        """The chat as text.

        Raises:
            BadRow: the template refuses the chat, or would lose a part of it.
        """
        self._check_known(chat)
        messages, tools, mark = self._hidden(chat)
        with _bad_if_refused(chat):
            text, spans, turns = self._turns(chat, messages, tools)
        end = self.specials.end(text)
        if text.rstrip().endswith(self.eod_text):
            text = text.rstrip()
        specials = self._found(text, mark)
        if mark:
            spans = [(_at(text, mark, begin), _at(text, mark, end)) for begin, end in spans]
            end, text = _at(text, mark, end), text.replace(mark, "")
        trained_turns = len(spans)
        if self.cot == "mask":
            spans = [part for span in spans for part in _without_thoughts(text, span)]
        eod_is_target = chat.messages[-1].role == "assistant" and bool(spans) and spans[-1][1] == end
        return Printed(text, specials, tuple(spans), eod_is_target, turns, trained_turns, bool(mark))

    def prompt(self, chat: ChatRow) -> Printed:
        """The chat as text, up to where the assistant speaks next; nothing of it is a target.

        Raises:
            BadRow: as for :meth:`print`.
        """
        self._check_known(chat)
        messages, tools, mark = self._hidden(chat)
        with _bad_if_refused(chat):
            text = self.template.print(messages, tools, prompt=True)
        return Printed(text.replace(mark, ""), self._found(text, mark), (), False, 0, 0, bool(mark))

    def _found(self, text: str, mark: str) -> tuple[SpecialToken, ...]:
        """The special tokens of a printed text, where they come to lie without the marks."""
        found = self.specials.find(text)
        if not mark:
            return found
        return tuple(SpecialToken(_at(text, mark, at.begin), _at(text, mark, at.end), at.id) for at in found)

    def _turns(self, chat: ChatRow, messages: list[Any], tools: list[Any] | None) -> tuple[str, list[Span], int]:
        """The whole text, the assistant's spans in it, and how many turns were to have one."""
        text = self.template.print(messages, tools)
        spans: list[Span] = []
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        if self.trained == "each_by_its_prefix":
            turns = turns[-1:]
        for index in turns:
            before = self._before(messages, index, tools)
            after = text if index + 1 == len(messages) else self.template.print(messages[: index + 1], tools)
            _check_reasoning(chat, index, messages[index], after)
            end = self._end(after, text)
            if before and self.template.begins(after, before) and len(before) < end:
                spans.append((len(before), end))
        return text, spans, len(turns)

    def _before(self, messages: list[Any], turn: int, tools: list[Any] | None) -> str:
        """The chat up to an assistant's turn, with its beginning; empty where a chat cannot begin with it."""
        try:
            return self.template.print(messages[:turn], tools, prompt=True, speaker=messages[turn].get("name"))
        except TemplateRefuses:
            if turn == 0:
                return ""  # many templates cannot print a chat without messages
            raise

    def _end(self, turn: str, text: str) -> int:
        """Where the chat up to a turn ends in the whole text; 0 if it is printed differently there."""
        end = self.specials.end(turn)
        if self.template.begins(text, turn[:end]):
            return end
        if turn[:end].endswith(self.eod_text):
            end = self.specials.end(turn[: end - len(self.eod_text)])  # Phi-3.5 prints EOD only after the last turn
            return end if self.template.begins(text, turn[:end]) else 0
        return 0

    def _hidden(self, chat: ChatRow) -> tuple[list[Any], list[Any] | None, str]:
        """Messages and tools as templates know them, with the text of special tokens broken by a mark."""
        messages = [_fields(message) for message in msgspec.to_builtins(chat.messages)]
        try:
            (messages, tools), mark = self.specials.hide([messages, chat.tools])
        except ValueError as error:
            what = f"messages: hold the text of a special token, and {error}; remove the text"
            raise BadRow("special", chat.place, what) from None
        return messages, tools, mark

    def _check_known(self, chat: ChatRow) -> None:
        """A template that never reads a field would lose it."""
        fields = {
            "tools": chat.tools,
            "tool_calls": any(message.tool_calls for message in chat.messages),
            "reasoning_content": any(message.reasoning_content for message in chat.messages),
        }
        for field, value in fields.items():
            if value and field not in self.template.source:
                advice = "put it into content as <think>…</think>" if field == "reasoning_content" else "remove the row"
                raise BadRow("chat", chat.place, f"{field}: the chat template does not print this; {advice}")


@contextlib.contextmanager
def _bad_if_refused(chat: ChatRow) -> Iterator[None]:
    try:
        yield
    except TemplateRefuses as error:
        what = f"messages: the chat template refuses them ({error}); fix the row"
        raise BadRow("chat", chat.place, what) from error


def _fields(message: dict[str, Any]) -> dict[str, Any]:
    """A field that is not there must be undefined."""
    return {key: value for key, value in message.items() if value is not None}


def _check_reasoning(chat: ChatRow, index: int, message: dict[str, Any], text: str) -> None:
    if message.get("reasoning_content", "").strip() not in text:
        what = f"messages[{index}].reasoning_content: the chat template does not print it"
        raise BadRow("chat", chat.place, f"{what}; put it into content as <think>…</think>")


def _at(text: str, mark: str, position: int) -> int:
    """Where a position comes to lie when the marks are taken out."""
    return position - text.count(mark, 0, position)


def _without_thoughts(text: str, span: Span) -> list[Span]:
    """What is left of a span without its thoughts; one may have been opened by the prompt."""
    begin, end = span
    opened = _OPEN_THOUGHT.search(text, 0, begin)
    parts: list[Span] = []
    for thought in _THOUGHT.finditer(text, opened.start() if opened else begin, end):
        parts.append((begin, thought.start()))
        begin = thought.end()
    return [(begin, end) for begin, end in [*parts, (begin, end)] if begin < end]
