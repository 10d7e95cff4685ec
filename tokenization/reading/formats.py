"""Rows as other people write them, a function for each format: from the fields of a row to those that we know.

========================  ====================================================================================
``sharegpt``              ``conversations``: ``[{"from": "human", "value": …}, {"from": "gpt", "value": …}]``
``prompt_completion``     ``prompt`` and ``completion``
``alpaca``                ``instruction``, ``input`` (may be empty) and ``output``
========================  ====================================================================================

Each may have a ``system`` text as well. A field of another name is renamed first: ``columns: {text: body}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import orjson

from msm_hpc.base.errors import UserError
from tokenization.reading.fields import Fields, others, take
from tokenization.reading.rows import BadRow, Role, RowPlace

Format = Literal["plain", "sharegpt", "prompt_completion", "alpaca"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "plain": ("id", "text", "messages", "tools"),
    "sharegpt": ("id", "conversations", "system", "tools"),
    "prompt_completion": ("id", "prompt", "completion", "system", "tools"),
    "alpaca": ("id", "instruction", "input", "output", "system", "tools"),
}
"""The fields that a format knows; all others are provenance."""
SPEAKERS: Mapping[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
}
PROMPTS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("instruction", "response"))
TEXTS = ("content", "document", "body", "article")


class _Turn(msgspec.Struct, forbid_unknown_fields=True, rename={"speaker": "from"}):
    speaker: str
    value: str


_NULL = msgspec.Raw(b"null")
_TURNS = msgspec.json.Decoder(list[_Turn] | None)
_TEXT: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)


@dataclass(frozen=True)
class RowShape:
    """How the rows of a corpus are written.

    Attributes:
        columns: a field of ``format`` to the name that it has in the rows.

    Raises:
        UserError: ``columns`` names a field that the format does not have, or reads two from one.
    """

    format: Format = "plain"
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = COLUMNS[self.format]
        for ours in self.columns:
            if ours not in known:
                raise UserError(f"columns: no field {ours!r} in rows of format {self.format}: {', '.join(known)}")
        for theirs, times in Counter(self.columns.values()).items():
            if times > 1:
                twice = " and ".join(ours for ours, name in self.columns.items() if name == theirs)
                raise UserError(f"columns: {twice} are both read from {theirs!r}; name another field for one of them")

    def known_fields(self, fields: Fields, place: RowPlace) -> Fields:
        """``fields`` with those of another name or format as the ones that we know.

        Raises:
            BadRow: they are not of the format, or hold a field that another is renamed to.
        """
        # All are taken out before any is set: columns may swap names.
        renamed = {ours: fields.pop(theirs) for ours, theirs in self.columns.items() if theirs in fields}
        for ours in renamed:
            if fields.get(ours, _NULL) != _NULL:
                theirs = self.columns[ours]
                what = f"{ours}: is there, and so is {theirs}, which columns.{ours} has read as {ours}"
                raise BadRow("field", place, f"{what}; drop one of the two, or columns.{ours}")
        fields |= renamed
        if self.format != "plain":
            fields["messages"] = msgspec.Raw(orjson.dumps([*_turns(self.format, fields, place)]))
        return fields

    def options(self, key: str) -> str:
        """The overrides that have the source of ``key`` read so, such as ``sources.chats.format=sharegpt``."""
        given = [] if self.format == "plain" else [f"{key}.format={self.format}"]
        return " ".join(given + [f"{key}.columns.{ours}={theirs}" for ours, theirs in self.columns.items()])

    @property
    def flags(self) -> str:
        """The flags of ``python -m tokenization run`` that have a corpus read so."""
        given = [] if self.format == "plain" else [f"--format {self.format}"]
        return " ".join(given + [f"--column {ours}={theirs}" for ours, theirs in self.columns.items()])


PLAIN = RowShape()


class OtherShape(BadRow):
    """A row that is not written as was said, but in a way that we know: ``shape``."""

    def __init__(self, place: RowPlace, what: str, shape: RowShape) -> None:
        super().__init__("field", place, f"{what}; read such rows with {shape.flags}")
        self.shape, self.what = shape, what

    def __reduce__(self) -> tuple[Any, ...]:
        return OtherShape, (self.place, self.what, self.shape)


def likely_shape(fields: Mapping[str, msgspec.Raw]) -> RowShape | None:
    """How a row seems to be written that has neither ``text`` nor ``messages``; None where that is not clear."""
    values = {name: msgspec.json.decode(raw) for name, raw in fields.items()}
    for name, value in values.items():
        first = value[0] if isinstance(value, list) and value else None
        if isinstance(first, dict) and first.keys() >= {"from", "value"}:
            return _shape("sharegpt", conversations=name)
        if isinstance(first, dict) and first.keys() >= {"role", "content"}:
            return _shape("plain", messages=name)
    if values.keys() >= {"instruction", "output"}:
        return _shape("alpaca")
    for prompt, completion in PROMPTS:
        if isinstance(values.get(prompt), str) and isinstance(values.get(completion), str):
            return _shape("prompt_completion", prompt=prompt, completion=completion)
    text = next((name for name in TEXTS if isinstance(values.get(name), str)), None)
    return _shape("plain", text=text) if text else None


def _shape(format: Format, **columns: str) -> RowShape:
    return RowShape(format, {ours: theirs for ours, theirs in columns.items() if ours != theirs})


def _turns(format: Format, fields: Fields, place: RowPlace) -> Iterator[dict[str, str]]:
    """The messages of a row of another format, the system's first."""
    system = take(_TEXT, fields, "system", place)
    if system and not system.isspace():
        yield {"role": "system", "content": system}
    yield from _CHATS[format](fields, place)


def _sharegpt(fields: Fields, place: RowPlace) -> Iterator[dict[str, str]]:
    turns = take(_TURNS, fields, "conversations", place)
    if not turns:
        raise _missing("conversations", fields, place)
    for number, turn in enumerate(turns):
        role = SPEAKERS.get(turn.speaker)
        if role is None:
            known = ", ".join(SPEAKERS)
            what = f"conversations[{number}].from: {turn.speaker!r} is unknown; give one of {known}"
            raise BadRow("field", place, what)
        _check_text(f"conversations[{number}].value", turn.value, place)
        yield {"role": role, "content": turn.value}


def _prompt_completion(fields: Fields, place: RowPlace) -> Iterator[dict[str, str]]:
    yield {"role": "user", "content": _text(fields, "prompt", place)}
    yield {"role": "assistant", "content": _text(fields, "completion", place)}


def _alpaca(fields: Fields, place: RowPlace) -> Iterator[dict[str, str]]:
    asked, given = _text(fields, "instruction", place), take(_TEXT, fields, "input", place)
    yield {"role": "user", "content": f"{asked}\n\n{given}" if given and not given.isspace() else asked}
    yield {"role": "assistant", "content": _text(fields, "output", place)}


_CHATS: Mapping[str, Callable[[Fields, RowPlace], Iterator[dict[str, str]]]] = {
    "sharegpt": _sharegpt,
    "prompt_completion": _prompt_completion,
    "alpaca": _alpaca,
}


def _text(fields: Fields, key: str, place: RowPlace) -> str:
    text = take(_TEXT, fields, key, place)
    if text is None:
        raise _missing(key, fields, place)
    _check_text(key, text, place)
    return text


def _missing(key: str, fields: Fields, place: RowPlace) -> BadRow:
    what = f"{key}: missing or empty; {others(fields)}; if it has another name, give columns.{key}=NAME"
    return BadRow("field", place, what)


def _check_text(key: str, text: str, place: RowPlace) -> None:
    if not text or text.isspace():
        raise BadRow("empty", place, f"{key}: empty; write it, or remove the row")
