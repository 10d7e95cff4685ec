"""What a template prints around the messages, learned once for all chats of one shape.

Chats with the same roles in the same order differ in their contents alone, so printing one with *placeholders* tells
how to print them all. Cut at the control tokens, ChatML for (user, assistant) is::

    <|im_start|>  user\n{0}  <|im_end|>  \\n  <|im_start|>  assistant\\n{1}  <|im_end|>  \\n
    `-- run ---'  `- slot -'  `--------- run ---------'  `--- slot ----'  `----- run -----'

Runs are token ids that never change. A slot is a text with one content in it, which is encoded as a whole, since
tokens may join ``\\n`` and the content. Many chats then need one call of the engine and a few numpy operations.

The assistant's part of a slot begins after ``assistant\\n``, the *header*. The header's tokens must be the first of the
slot's; a content that joins with it (one that begins with ``\\n``) is not for this way.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tokenization.chats.reference import Whole
from tokenization.chats.turns import Printed, Turns
from tokenization.encoded import Encoded, Ragged
from tokenization.engines.reference import Engine
from tokenization.reading.rows import BadRow, Chat

# Its inside shows a template that escapes, changes the case of, or splits at lines what it prints.
_OPEN, _SHUT = "\ue000", "\ue001"
_PLACEHOLDER = f"{_OPEN}aZ \n\"<&'é{{}}{_SHUT}"
_PLACE = re.compile(_PLACEHOLDER.format(r"(\d+)"))
_SPACES = ("\n ", " \n")  # a template may take off the one or the other


@dataclass(frozen=True)
class Slot:
    """A text with the content of message ``message`` in it; ``header`` begins it, None if no part is a target."""

    message: int
    before: str
    after: str
    header: str | None


@dataclass(frozen=True)
class Literal:
    """Text that does not change, and whether it is a target."""

    text: str
    is_target: bool


@dataclass(frozen=True)
class Token:
    """A control token, and whether it is a target."""

    id: int
    is_target: bool


Part: TypeAlias = Slot | Literal | Token


@dataclass(frozen=True)
class Run:
    """Tokens that do not change: (length,) int32 ids and (length,) uint8 loss mask."""

    ids: NDArray[np.int32]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Skeleton:
    """The chats of one shape: ``runs[0] slots[0] runs[1] … slots[-1] runs[-1]``.

    Attributes:
        runs: one more than slots; the last one ends with EOD.
        headers: (length,) int32 for each slot: the ids that come before its targets; None if it has no targets.
        keeps_space: whether contents are printed with the white space around them.
        rewritten: turns of the assistant that are not trained.
    """

    slots: tuple[Slot, ...]
    runs: tuple[Run, ...]
    headers: tuple[NDArray[np.int32] | None, ...]
    keeps_space: bool
    rewritten: int


def learn(turns: Turns, chat: Chat, engine: Engine, eod_id: int) -> Skeleton | None:
    """The skeleton of a chat's shape; None where the template prints it in a way that skeletons cannot tell."""
    try:
        printed = turns.print(_with_placeholders(chat, ""))
        spaced = [turns.print(_with_placeholders(chat, space)) for space in _SPACES]
    except BadRow:
        return None
    parts = _parts(printed, "")
    if parts is None or not printed.spans:
        return None
    keeps_space = all(_parts(other, space) == parts for other, space in zip(spaced, _SPACES, strict=True))
    if printed.controls and printed.controls[-1].id == eod_id and printed.controls[-1].end == len(printed.text):
        end: list[Part] = []
    else:
        end = [Token(eod_id, printed.eod_is_target)]
    return _compiled([*parts, *end], engine, keeps_space, printed.rewritten)


def without_slots(chat: Whole) -> Skeleton:
    """A chat that is encoded already."""
    return Skeleton((), (Run(chat.ids, chat.mask),), (), keeps_space=True, rewritten=chat.rewritten)


def headers_hold(shapes: NDArray[np.int64], skeletons: Sequence[Skeleton], texts: Ragged) -> NDArray[np.bool_]:
    """Whether every slot's tokens begin with its header's.

    Args:
        shapes: (chats,) which skeleton each chat has.
        skeletons: all of them.
        texts: the slots of the chats, in order.

    Returns:
        (chats,).
    """
    hold = np.ones(len(shapes), np.bool_)
    first = _before([len(skeleton.slots) for skeleton in skeletons], shapes)
    for number, members in _groups(shapes):
        for index, header in enumerate(skeletons[number].headers):
            if header is not None:
                begins = texts.offsets[first[members] + index]
                long_enough = texts.offsets[first[members] + index + 1] - begins >= len(header)
                where = np.minimum(begins[:, None] + np.arange(len(header)), len(texts.ids) - 1)
                hold[members] &= long_enough & (texts.ids[where] == header).all(axis=1)
    return hold


def assemble(shapes: NDArray[np.int64], skeletons: Sequence[Skeleton], texts: Ragged) -> Encoded:
    """The tokens and loss masks of chats from those of their slots; arguments as in :func:`headers_hold`."""
    lengths_of_texts = np.diff(texts.offsets)
    slots = [len(skeleton.slots) for skeleton in skeletons]
    first = _before(slots, shapes)
    fixed = np.array([sum(len(run.ids) for run in skeleton.runs) for skeleton in skeletons], np.int64)[shapes]
    lengths = fixed + texts.offsets[first + np.array(slots, np.int64)[shapes]] - texts.offsets[first]
    starts = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    ids, mask, is_run = np.empty(total, np.int32), np.zeros(total, np.uint8), np.zeros(total, np.bool_)
    edges = np.zeros(total + 1, np.int8)
    for number, members in _groups(shapes):
        skeleton, position = skeletons[number], starts[members]
        for index, run in enumerate(skeleton.runs):
            where = position[:, None] + np.arange(len(run.ids))
            ids[where], mask[where], is_run[where] = run.ids, run.mask, True
            position += len(run.ids)
            if index < len(skeleton.slots):
                after = position + lengths_of_texts[first[members] + index]
                if (header := skeleton.headers[index]) is not None:
                    edges[position + len(header)] += 1
                    edges[after] -= 1
                position = after
    ids[~is_run] = texts.ids
    mask |= np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8)
    return Encoded(ids, lengths.astype(np.int32), mask)


def _with_placeholders(chat: Chat, space: str) -> Chat:
    messages = [
        msgspec.structs.replace(message, content=f"{space}{_PLACEHOLDER.format(index)}{space}")
        for index, message in enumerate(chat.messages)
    ]
    return msgspec.structs.replace(chat, messages=messages)


def _parts(printed: Printed, space: str) -> list[Part] | None:
    """What was printed, cut at its control tokens; None where a piece is neither a slot nor a literal."""
    parts: list[Part] = []
    begin = 0
    for control in (*printed.controls, None):
        end = len(printed.text) if control is None else control.begin
        if begin < end:
            part = _part(printed, begin, end, space)
            if part is None:
                return None
            parts.append(part)
        if control is not None:
            parts.append(Token(control.id, any(first <= control.begin < last for first, last in printed.spans)))
            begin = control.end
    return parts


def _part(printed: Printed, begin: int, end: int, space: str) -> Slot | Literal | None:
    text = printed.text[begin:end]
    spans = [(first, last) for first, last in printed.spans if first < end and last > begin]
    if len(spans) > 1 or (spans and spans[0][1] < end):
        return None
    start = max(spans[0][0], begin) - begin if spans else None
    places = list(_PLACE.finditer(text))
    if len(places) != text.count(_OPEN) or len(places) > 1:
        return None
    if not places:
        return None if start else Literal(text, start is not None)
    before, after = text[: places[0].start()], text[places[0].end() :]
    if not (before.endswith(space) and after.startswith(space)):
        return None
    before, after = before.removesuffix(space), after.removeprefix(space)
    if start is not None and start > len(before):
        return None
    return Slot(int(places[0][1]), before, after, None if start is None else text[:start])


def _compiled(parts: Sequence[Part], engine: Engine, keeps_space: bool, rewritten: int) -> Skeleton:
    slots = tuple(part for part in parts if isinstance(part, Slot))
    literals = [part.text for part in parts if isinstance(part, Literal)]
    encoded = engine.encode([*literals, *(slot.header or "" for slot in slots)])
    ids_of_literals = iter([encoded[index] for index in range(len(literals))])
    headers = tuple(None if slot.header is None else encoded[len(literals) + i] for i, slot in enumerate(slots))
    runs: list[Run] = []
    ids: list[int] = []
    mask: list[int] = []
    for part in (*parts, None):
        if part is None or isinstance(part, Slot):
            runs.append(Run(np.array(ids, np.int32), np.array(mask, np.uint8)))
            ids, mask = [], []
        else:
            added = [part.id] if isinstance(part, Token) else next(ids_of_literals).tolist()
            ids += added
            mask += [int(part.is_target)] * len(added)
    return Skeleton(slots, tuple(runs), headers, keeps_space, rewritten)


def _before(counts: Sequence[int], shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(chats,): how many slots the chats before each have."""
    slots = np.array(counts, np.int64)[shapes]
    return np.cumsum(slots) - slots


def _groups(shapes: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    """Each shape and the chats that have it."""
    order = np.argsort(shapes, kind="stable")
    cuts = np.flatnonzero(np.diff(shapes[order])) + 1
    return [(int(shapes[members[0]]), members) for members in np.split(order, cuts) if len(members)]
