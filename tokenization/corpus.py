"""Reading ``data.jsonl``: one document or one chat a line.

A corpus is split over array tasks by bytes, so that no task reads what another one tokenises: task ``k`` of ``n``
takes the lines that *begin* in the ``k``-th of ``n`` equal byte ranges. Each line begins in exactly one of them, so
the tasks' outputs, one after another, are the same for every ``n``. For example with 2 tasks::

    {"id": "a", "text": "a long line"}\n{"id": "b", "text": "short"}\n
    |------------ task 0 ------------:---|----------- task 1 -----|
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import orjson

from tokenization.errors import BadInput
from tokenization.manifest import CHUNK_BYTES

Role = Literal["system", "user", "assistant"]
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Place:
    """Where a row begins: a byte offset in a file. Printed as ``file:line``."""

    path: Path
    offset: int

    def __str__(self) -> str:
        """``file:line``, lines counted from 1; reads the file up to the row, so for messages alone."""
        lines, left = 1, self.offset
        with self.path.open("rb") as file:
            while left > 0:
                chunk = file.read(min(left, CHUNK_BYTES))
                lines += chunk.count(b"\n")
                left -= len(chunk)
        return f"{self.path}:{lines}"


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``name`` is the speaker's name, for templates that print it."""

    role: Role
    content: str
    name: str | None = None


@dataclass(frozen=True)
class Document:
    """A text; every token of it is a training target."""

    id: str
    text: str
    provenance: Mapping[str, Any]
    place: Place


@dataclass(frozen=True)
class Chat:
    """A conversation; the assistant's tokens are the training targets."""

    id: str
    messages: tuple[Message, ...]
    provenance: Mapping[str, Any]
    place: Place


Row: TypeAlias = Document | Chat


def byte_range(path: Path, task: int, tasks: int) -> tuple[int, int]:
    """The bytes ``[begin, end)`` of the lines that task ``task`` of ``tasks`` takes; may be empty."""
    size = path.stat().st_size
    return _line_start(path, size * task // tasks), _line_start(path, size * (task + 1) // tasks)


def read_rows(path: Path, begin: int, end: int) -> Iterator[Row]:
    """The rows in the bytes ``[begin, end)``, which begin and end at line starts.

    Raises:
        BadInput: a row is not one JSON object of a document or a chat, or has the id of an earlier row of this range
            (rows of other ranges are not known here); names file, line and field.
    """
    first_with: dict[str, int] = {}
    with path.open("rb") as file:
        file.seek(begin)
        offset = begin
        while offset < end:
            line = file.readline()
            row = _row(line, Place(path, offset))
            if (first := first_with.setdefault(row.id, offset)) != offset:
                raise BadInput(
                    f"{row.place}: id: {row.id!r} is the id of {Place(path, first)} too; give each row its own"
                )
            yield row
            offset += len(line)


def _line_start(path: Path, position: int) -> int:
    """Offset of the first line that begins at or after ``position``."""
    if position == 0:
        return 0
    with path.open("rb") as file:
        file.seek(position - 1)
        file.readline()
        return file.tell()


def _row(line: bytes, place: Place) -> Row:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadInput(
            f"{place}: not valid JSON in UTF-8 ({error}); write one object a line, no blank lines"
        ) from error
    if not isinstance(fields, dict):
        raise BadInput(f"{place}: expected a JSON object, found {type(fields).__name__}; write one object a line")
    if ("text" in fields) == ("messages" in fields):
        raise BadInput(f"{place}: text: give exactly one of text (a document) and messages (a chat)")
    name = _text(fields, "id", place)
    provenance = {key: value for key, value in fields.items() if key not in ("id", "text", "messages")}
    if "text" in fields:
        return Document(name, _text(fields, "text", place), provenance, place)
    return Chat(name, _messages(fields["messages"], place), provenance, place)


def _messages(values: object, place: Place) -> tuple[Message, ...]:
    if not isinstance(values, list) or not values:
        raise BadInput(f"{place}: messages: expected a list of messages, not empty; give at least one")
    return tuple(_message(value, place, f"messages[{index}]") for index, value in enumerate(values))


def _message(value: object, place: Place, field: str) -> Message:
    if not isinstance(value, dict):
        raise BadInput(
            f"{place}: {field}: expected an object, found {type(value).__name__}; write one with role and content"
        )
    if unknown := set(value) - {"role", "content", "name"}:
        raise BadInput(f"{place}: {field}: unknown fields {sorted(unknown)}; leave only role, content, name")
    if value.get("role") not in ROLES:
        raise BadInput(f"{place}: {field}.role: found {value.get('role')!r}; give one of {', '.join(ROLES)}")
    content = _text(value, "content", place, f"{field}.")
    name = _text(value, "name", place, f"{field}.") if "name" in value else None
    return Message(cast(Role, value["role"]), content, name)


def _text(fields: Mapping[str, Any], key: str, place: Place, prefix: str = "") -> str:
    if key not in fields:
        raise BadInput(f"{place}: {prefix}{key}: missing; add it")
    value = fields[key]
    if not isinstance(value, str):
        raise BadInput(f"{place}: {prefix}{key}: expected a string, found {type(value).__name__}; write it in quotes")
    if not value.strip():
        raise BadInput(f"{place}: {prefix}{key}: empty; remove the row")
    return value
