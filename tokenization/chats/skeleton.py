r"""What a template prints around the messages, learned once for all chats of one shape.

Chats with the same roles in the same order differ in their contents alone, so printing one with *placeholders*
(``tracing.py``) shows how to print them all. Cut at the special tokens, ChatML for (user, assistant) is::

    <|im_start|>  user\n{0}  <|im_end|>  \n  <|im_start|>  assistant\n{1}  <|im_end|>  \n
    `- fixed --'  `- slot -'  `-------- fixed --------'  `--- slot ----'  `--- fixed ---'

Fixed tokens are the same in every chat. A slot is a text with one content in it, which is encoded as a whole, since
tokens may join ``\n`` and the content. Many chats then need one call of the engine and a few numpy operations.

The assistant's part of a slot starts after ``assistant\n``, the *header*. The slot's tokens must start with those of
the header; if they do not (a content that starts with ``\n`` joins with it), the chat is encoded by the reference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenization.chats.reference import EncodedChat
from tokenization.chats.special_tokens import SpecialTokens
from tokenization.chats.tracing import OPEN, SHUT, Conditions, NotUnderstood, Tracer
from tokenization.chats.turns import Printed, Turns
from tokenization.encoded import Encoded, Ragged
from tokenization.engines.reference import Engine
from tokenization.reading.rows import BadRow, ChatRow

_PLACEHOLDER = re.compile(rf"{OPEN}(\d+){SHUT}")


@dataclass(frozen=True)
class Slot:
    """A text with the content of message ``message`` in it; ``header`` starts it, None if no part is a target."""

    message: int
    before: str
    after: str
    header: str | None


@dataclass(frozen=True)
class FixedText:
    """Text that is the same in every chat, and whether it is a target."""

    text: str
    is_target: bool


@dataclass(frozen=True)
class FixedToken:
    """A special token that is the same in every chat, and whether it is a target."""

    id: int
    is_target: bool


Segment: TypeAlias = Slot | FixedText | FixedToken


@dataclass(frozen=True)
class FixedTokens:
    """The tokens between two slots: (length,) int32 ids and (length,) uint8 loss mask."""

    ids: NDArray[np.int32]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Skeleton:
    """The chats of one shape: ``fixed[0] slots[0] fixed[1] … slots[-1] fixed[-1]``.

    Attributes:
        fixed: one more than slots, each may be empty; the last one ends with EOD.
        headers: (length,) int32 for each slot: the ids that come before its targets; None if it has no targets.
        conditions: for which contents this holds.
        turns: of the assistant, that were to be trained on.
        trained_turns: those that are.
    """

    slots: tuple[Slot, ...]
    fixed: tuple[FixedTokens, ...]
    headers: tuple[NDArray[np.int32] | None, ...]
    conditions: Conditions
    turns: int
    trained_turns: int


class _Irregular(Exception):
    """The template prints these chats in a way that no skeleton describes; the message says how."""


def learn(turns: Turns, tracer: Tracer, chat: ChatRow, engine: Engine, eod_id: int) -> Skeleton | None:
    """The skeleton of a chat's shape; None if the template prints it in a way that no skeleton describes."""
    if any(OPEN in text for text in (tracer.source, *(message.name or "" for message in chat.messages))):
        return None  # a placeholder could not be told from what was there
    tracer = tracer.fresh()
    try:
        printed = replace(turns, template=tracer).print(_with_placeholders(chat))
        segments = _segments(printed, turns.specials)
    except (BadRow, NotUnderstood, _Irregular):
        return None
    if not printed.spans:
        return None
    if not _ends_with(printed, eod_id):
        segments.append(FixedToken(eod_id, printed.eod_is_target))
    return _compiled(segments, engine, tracer.conditions, printed.turns, printed.trained_turns)


def without_slots(chat: EncodedChat) -> Skeleton:
    """A chat that is encoded already."""
    return Skeleton((), (FixedTokens(chat.ids, chat.mask),), (), Conditions(), chat.turns, chat.trained_turns)


def headers_hold(shapes: NDArray[np.int64], skeletons: Sequence[Skeleton], texts: Ragged) -> NDArray[np.bool_]:
    """Whether every slot's tokens start with its header's.

    Args:
        shapes: (chats,) which skeleton each chat has.
        skeletons: all of them.
        texts: the slots of the chats, in order.

    Returns:
        (chats,).
    """
    hold = np.ones(len(shapes), np.bool_)
    first_slot = _slots_before(skeletons, shapes)
    for skeleton, chats in _by_skeleton(skeletons, shapes):
        for index, header in enumerate(skeleton.headers):
            if header is not None:
                slot = first_slot[chats] + index
                begins, ends = texts.offsets[slot], texts.offsets[slot + 1]
                # (chats, header) the places of the tokens to compare. A slot shorter than its header would read those
                # of its neighbour, or past the end: there the place is clipped, and `long_enough` refuses the chat.
                where = np.minimum(begins[:, None] + np.arange(len(header)), len(texts.ids) - 1)
                long_enough = ends - begins >= len(header)
                hold[chats] &= long_enough & (texts.ids[where] == header).all(axis=1)
    return hold


def assemble(shapes: NDArray[np.int64], skeletons: Sequence[Skeleton], texts: Ragged) -> Encoded:
    """The tokens and loss masks of chats from those of their slots; arguments as in :func:`headers_hold`.

    The fixed tokens are written first, for all chats of a skeleton at once; what is left free are the slots, in order,
    which is the order of ``texts``. For the skeleton ``S {0} E S {1} E D``, whose second slot has the header ``h``, and
    the chats (``u v``, ``h a``) and (``u``, ``h a b``)::

        is_fixed   1 0 0 1 1 0 0 1 1 1 0 1 1 0 0 0 1 1
        ids        S u v E S h a E D S u E S h a b E D
        edges      . . . . . . + - . . . . . . + . - .    + where targets start in a slot, - after they end
        mask       0 0 0 0 0 0 1 1 1 0 0 0 0 0 1 1 1 1    the running sum of edges, or the mask of the fixed tokens
    """
    slot_lengths = np.diff(texts.offsets)
    first_slot = _slots_before(skeletons, shapes)
    lengths = _chat_lengths(shapes, skeletons, texts)
    starts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    ids, mask, is_fixed = np.empty(total, np.int32), np.zeros(total, np.uint8), np.zeros(total, np.bool_)
    edges = np.zeros(total + 1, np.int8)  # one more: a slot may end with the last token
    for skeleton, chats in _by_skeleton(skeletons, shapes):
        position = starts[chats]  # (chats,) how far each chat is written
        for index, fixed in enumerate(skeleton.fixed):
            where = position[:, None] + np.arange(len(fixed.ids))  # (chats, fixed tokens)
            ids[where], mask[where], is_fixed[where] = fixed.ids, fixed.mask, True
            position += len(fixed.ids)
            if index < len(skeleton.slots):
                end = position + slot_lengths[first_slot[chats] + index]
                if (header := skeleton.headers[index]) is not None:
                    # Added and not set: a slot with a header and no more starts and ends its targets at one place.
                    edges[position + len(header)] += 1
                    edges[end] -= 1
                position = end
    ids[~is_fixed] = texts.ids
    mask |= np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
    return Encoded(ids, lengths.astype(np.int32), mask)


def _with_placeholders(chat: ChatRow) -> ChatRow:
    messages = [
        msgspec.structs.replace(message, content=f"{OPEN}{index}{SHUT}") for index, message in enumerate(chat.messages)
    ]
    return msgspec.structs.replace(chat, messages=messages)


def _ends_with(printed: Printed, eod_id: int) -> bool:
    """Whether the template printed EOD, and nothing after it."""
    last = printed.specials[-1] if printed.specials else None
    return last is not None and last.id == eod_id and last.end == len(printed.text)


def _segments(printed: Printed, specials: SpecialTokens) -> list[Segment]:
    """What was printed, cut at its special tokens."""
    segments: list[Segment] = []
    begin = 0
    for special in (*printed.specials, None):
        end = len(printed.text) if special is None else special.begin
        if begin < end:
            segments.append(_segment(printed, begin, end, specials))
        if special is not None:
            is_target = any(first <= special.begin < last for first, last in printed.spans)
            segments.append(FixedToken(special.id, is_target))
            begin = special.end
    return segments


def _segment(printed: Printed, begin: int, end: int, specials: SpecialTokens) -> Slot | FixedText:
    """The text ``[begin, end)`` between two special tokens."""
    text = printed.text[begin:end]
    target = _target_start(printed, begin, end)
    content = _content(text)
    if content is None:
        if target:  # an offset: 0 is the text's own start, None is no part of the assistant's
            raise _Irregular("the assistant's part starts inside a text without a content")
        return FixedText(text, is_target=target is not None)
    if target is not None and target > content.start():
        raise _Irregular("the assistant's part starts inside or after a content")
    if specials.may_join(printed.text[: begin + content.start()], printed.text[begin + content.end() :]):
        raise _Irregular("a content may make a special token with what is printed beside it")
    before, after = text[: content.start()], text[content.end() :]
    return Slot(int(content[1]), before, after, None if target is None else text[:target])


def _target_start(printed: Printed, begin: int, end: int) -> int | None:
    """Where the assistant's part starts in the text ``[begin, end)``, counted from ``begin``; None if it has none."""
    spans = [(first, last) for first, last in printed.spans if first < end and last > begin]
    if not spans:
        return None
    if len(spans) > 1 or spans[0][1] < end:
        raise _Irregular("the assistant's part ends between two special tokens")
    return max(spans[0][0], begin) - begin


def _content(text: str) -> re.Match[str] | None:
    """The placeholder in a text between two special tokens; None if there is none."""
    found = list(_PLACEHOLDER.finditer(text))
    if len(found) > 1:
        raise _Irregular("two contents have no special token between them")
    return found[0] if found else None


def _compiled(
    segments: Sequence[Segment], engine: Engine, conditions: Conditions, turns: int, trained_turns: int
) -> Skeleton:
    """The skeleton of these segments: fixed texts and headers are encoded, neighbouring fixed segments joined."""
    slots = tuple(segment for segment in segments if isinstance(segment, Slot))
    texts = [segment.text for segment in segments if isinstance(segment, FixedText)]
    encoded = engine.encode([*texts, *(slot.header or "" for slot in slots)])
    ids_of_texts = iter([encoded[index] for index in range(len(texts))])
    headers = tuple(None if slot.header is None else encoded[len(texts) + i] for i, slot in enumerate(slots))
    fixed: list[FixedTokens] = []
    ids: list[int] = []
    mask: list[int] = []
    for segment in (*segments, None):
        if segment is None or isinstance(segment, Slot):
            fixed.append(FixedTokens(np.array(ids, np.int32), np.array(mask, np.uint8)))
            ids, mask = [], []
        else:
            added = [segment.id] if isinstance(segment, FixedToken) else next(ids_of_texts).tolist()
            ids += added
            mask += [int(segment.is_target)] * len(added)
    return Skeleton(slots, tuple(fixed), headers, conditions, turns, trained_turns)


def _chat_lengths(shapes: NDArray[np.int64], skeletons: Sequence[Skeleton], texts: Ragged) -> NDArray[np.int64]:
    """(chats,) the tokens of each chat: those that are fixed, and those of its slots, which are neighbours in texts."""
    fixed = np.array([sum(len(fixed.ids) for fixed in skeleton.fixed) for skeleton in skeletons], np.int64)
    slots = np.array([len(skeleton.slots) for skeleton in skeletons], np.int64)
    first_slot = _slots_before(skeletons, shapes)
    lengths: NDArray[np.int64] = fixed[shapes] + texts.offsets[first_slot + slots[shapes]] - texts.offsets[first_slot]
    return lengths


def _slots_before(skeletons: Sequence[Skeleton], shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(chats,) how many slots the chats before each have: the number of its own first slot."""
    slots = np.array([len(skeleton.slots) for skeleton in skeletons], np.int64)[shapes]
    return np.cumsum(slots) - slots


def _by_skeleton(skeletons: Sequence[Skeleton], shapes: NDArray[np.int64]) -> list[tuple[Skeleton, NDArray[np.int64]]]:
    """Each skeleton in use, and the chats that have it."""
    order = np.argsort(shapes, kind="stable")
    cuts = np.flatnonzero(np.diff(shapes[order])) + 1  # where the next skeleton's chats start in `order`
    return [(skeletons[shapes[chats[0]]], chats) for chats in np.split(order, cuts) if len(chats)]
