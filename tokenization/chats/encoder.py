"""Chats to token ids and a loss mask.

There are two ways. The reference (``reference.py``) prints each chat by its template and is right for any. The fast
way knows what the template prints around the contents (``skeleton.py``) and encodes those alone. It takes a chat where
it is known that its contents change nothing of what is printed around them (``tracing.py``): not one with tools or
thoughts, with a string that the template looks for, or with white space that it takes off. Those go by the reference.

All the same a sample of the chats goes both ways (``engines/sample.py``): an engine may err too. The reference takes
50 to 100 times as long, so this adds up to a tenth. If the results differ, ``Inexact`` is raised.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tokenization.chats.reference import ChatReference
from tokenization.chats.skeleton import Skeleton, assemble, headers_hold, learn, without_slots
from tokenization.chats.special_tokens import SpecialTokens
from tokenization.chats.template import ChatTemplate
from tokenization.chats.tracing import Conditions, Tracer
from tokenization.chats.turns import Turns
from tokenization.documents import TurnsTrained
from tokenization.encoded import Encoded, Ragged
from tokenization.engines.reference import Engine
from tokenization.engines.sample import Inexact, Sample, check_equal
from tokenization.reading.rows import BadRow, ChatRow

FIRST_CHECKED = 8
"""Of each shape."""
SHAPES = 1_000
"""Learned at most; a chat of another shape goes by the reference."""

Shape: TypeAlias = tuple[str | None, ...]
_NONE = -1


@dataclass(frozen=True)
class EncodedChats:
    """The chats of one call.

    Attributes:
        encoded: those not rejected, in their order, each with one EOD.
        rejected: index of a chat to why it is not there.
        assistant_turns: how many turns of the assistant were to be targets.
        trained_turns: how many are; later turns change what the template prints for the others.
    """

    encoded: Encoded
    rejected: Mapping[int, BadRow]
    assistant_turns: int
    trained_turns: int


class ChatEncoder:
    """Encodes chats by a template.

    Args:
        template: of the model.
        engine: encodes ordinary text.
        reference: the same tokenizer by ``tokenizers``, without a post-processor.
        special: text to id of its special tokens.
        eod_id: ends every chat; a template that ends chats with it gets no second one.
        eod_text: its text.
        cot: ``mask`` leaves ``<think>…</think>`` out of the loss.
        turns: with ``each_by_its_prefix`` only the last turn of a chat is a target.
        fast: False takes the reference way for every chat.
    """

    def __init__(
        self,
        template: ChatTemplate,
        engine: Engine,
        reference: Tokenizer,
        special: Mapping[str, int],
        eod_id: int,
        eod_text: str,
        cot: Literal["train", "mask"] = "train",
        turns: TurnsTrained = "as_printed",
        fast: bool = True,
    ) -> None:
        specials = SpecialTokens(special)
        self._turns = Turns(template, specials, eod_text, cot, turns)
        self._reference = ChatReference(self._turns, reference, special, eod_id)
        self._engine, self._eod_id = engine, eod_id
        may_be_fast = fast and self._reference.may_cut and eod_text in special
        self._tracer = Tracer.of(template) if may_be_fast else None
        self._conditions = Conditions()
        self._conditions.absent |= {*special, *(["<think>"] if cot == "mask" else [])}
        self._numbers: dict[Shape, int] = {}
        self._skeletons: list[Skeleton] = []
        self._sample = Sample(FIRST_CHECKED)

    def encode(self, chats: Sequence[ChatRow]) -> EncodedChats:
        """Tokens and loss masks.

        Raises:
            Inexact: the reference encodes one of the sampled chats differently.
        """
        shapes, texts = self._slots(chats)
        sampled = [
            index
            for index, shape in enumerate(shapes.tolist())
            if shape != _NONE and self._sample.picks(chats[index].id, shape)
        ]
        known, rejected = list(self._skeletons), {}
        for index in np.flatnonzero(shapes == _NONE).tolist():
            try:
                known.append(without_slots(self._reference.encode(chats[index])))
            except BadRow as error:
                rejected[index] = error
            else:
                shapes[index] = len(known) - 1
        taken = np.flatnonzero(shapes != _NONE)
        encoded = assemble(shapes[taken], known, texts)
        self._check(chats, sampled, np.searchsorted(taken, sampled), encoded)
        turns = np.array([(skeleton.turns, skeleton.trained_turns) for skeleton in known], np.int64).reshape(-1, 2)
        there, trained = turns[shapes[taken]].sum(axis=0).tolist()
        return EncodedChats(encoded, rejected, there, trained)

    def _slots(self, chats: Sequence[ChatRow]) -> tuple[NDArray[np.int64], Ragged]:
        """(chats,) the skeleton of each chat, ``_NONE`` for the reference; and the tokens of the skeletons' slots."""
        shapes = self._shapes(chats)
        texts = [
            slot.before + chat.messages[slot.message].content + slot.after
            for chat, shape in zip(chats, shapes.tolist(), strict=True)
            if shape != _NONE
            for slot in self._skeletons[shape].slots
        ]
        tokens = self._engine.encode(texts)
        fast = np.flatnonzero(shapes != _NONE)
        hold = headers_hold(shapes[fast], self._skeletons, tokens)
        if not hold.all():
            slots = [len(self._skeletons[shape].slots) for shape in shapes[fast].tolist()]
            tokens = _only(tokens, np.repeat(hold, slots))
            shapes[fast[~hold]] = _NONE
        return shapes, tokens

    def _shapes(self, chats: Sequence[ChatRow]) -> NDArray[np.int64]:
        """(chats,) the skeleton that prints each chat as its template would, or ``_NONE``."""
        if self._tracer is None:
            return np.full(len(chats), _NONE, np.int64)
        shapes = np.array([self._shape(chat) for chat in chats], np.int64)
        contents = [message.content for chat in chats for message in chat.messages]
        if odd := self._odd(contents):
            ends = np.cumsum([len(chat.messages) for chat in chats])
            shapes[np.searchsorted(ends, odd, side="right")] = _NONE
        return shapes

    def _odd(self, contents: Sequence[str]) -> list[int]:
        """The contents that hold what none may hold, or begin as none may."""
        sought = "|".join(map(re.escape, sorted(self._conditions.absent)))
        found = [match.start() for match in re.finditer(sought, "\0".join(contents))]
        ends = np.cumsum([len(content) + 1 for content in contents])
        odd: list[int] = np.searchsorted(ends, found, side="right").tolist()
        if beginnings := self._conditions.beginnings:
            odd += [number for number, content in enumerate(contents) if content[:1] in beginnings]
        return odd

    def _shape(self, chat: ChatRow) -> int:
        """The skeleton of a chat, learned where it is new, or ``_NONE``; what the template seeks is not looked at."""
        shape: list[str | None] = []
        for message in chat.messages:
            if (
                not message.content
                or message.content.isspace()
                or message.tool_calls is not None
                or message.reasoning_content is not None
                or message.tool_call_id is not None
            ):
                return _NONE
            shape += (message.role, message.name)
        if chat.tools is not None:
            return _NONE
        key = tuple(shape)
        number = self._numbers.get(key)
        if number is None:
            number = self._learn(key, chat)
        if number != _NONE and self._skeletons[number].conditions.bare and _has_outer_space(chat):
            return _NONE
        return number

    def _learn(self, key: Shape, chat: ChatRow) -> int:
        if len(self._numbers) == SHAPES:
            return _NONE
        assert self._tracer is not None
        skeleton = learn(self._turns, self._tracer, chat, self._engine, self._eod_id)
        self._numbers[key] = _NONE if skeleton is None else len(self._skeletons)
        if skeleton is not None:
            self._skeletons.append(skeleton)
            self._conditions.absent |= skeleton.conditions.absent
            self._conditions.beginnings |= skeleton.conditions.beginnings
        return self._numbers[key]

    def _check(
        self, chats: Sequence[ChatRow], sampled: Sequence[int], places: NDArray[np.int64], encoded: Encoded
    ) -> None:
        """Compare the sampled chats, which are at ``places`` among the encoded ones, with the reference."""
        ends = np.cumsum(encoded.lengths, dtype=np.int64)
        assert encoded.mask is not None
        for index, place in zip(sampled, places.tolist(), strict=True):
            tokens = slice(int(ends[place] - encoded.lengths[place]), int(ends[place]))
            try:
                right = self._reference.encode(chats[index])
            except BadRow as error:
                raise Inexact(f"the fast way takes a chat that the reference refuses: {error}") from error
            what = f"{chats[index].place}: the fast way encodes this chat differently from the reference"
            check_equal(encoded.ids[tokens], right.ids, what)
            check_equal(encoded.mask[tokens], right.mask, what)


def _has_outer_space(chat: ChatRow) -> bool:
    return any(message.content[0].isspace() or message.content[-1].isspace() for message in chat.messages)


def _only(texts: Ragged, kept: NDArray[np.bool_]) -> Ragged:
    """The texts, (texts,), that are ``kept``."""
    lengths = np.diff(texts.offsets)
    return Ragged(texts.ids[np.repeat(kept, lengths)], np.concatenate([[0], np.cumsum(lengths[kept])]))
