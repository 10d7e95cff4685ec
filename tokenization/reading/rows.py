"""One row of a corpus: a JSON object that is a document or a chat.

A row is decoded in two steps, which is what makes reading fast. The first splits the object into its fields and leaves
each as it is written; the second decodes the fields we use. The others are provenance and are never built::

    {"id": "a", "text": "A caf\\u00e9.", "url": "https://…", "meta": {"year": 1999}}
         ->  id "a", text "A café.", provenance b'{"url":"https://…","meta":{"year": 1999}}'

JSON leaves some things open. Here ``null`` is the same as leaving a field out; of a key given twice the last counts;
and ``\\u0000`` is a character like any other.
"""

from __future__ import annotations

import codecs
from functools import lru_cache
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import msgspec
import orjson

from msm_hpc.base.errors import UserError

Role = Literal["system", "user", "assistant", "tool"]
Reason = Literal["json", "encoding", "field", "type", "empty", "chat", "special", "untrainable"]
T = TypeVar("T")


class RowPlace(msgspec.Struct, frozen=True, gc=False):
    """Where a row is; printed as ``file:line``, or as ``file:row N`` in a table.

    Attributes:
        path: the file, or the name of a data set.
        number: of the row, from 1, among the lines that begin at or after byte ``since``, or of all rows of a table.
        since: of files that several tasks read: byte offset of a line; what is before it is only counted when asked.
    """

    path: str
    number: int
    since: int = 0
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        if self.unit == "row":
            return f"{self.path}:row {self.number}"
        before = _lines_before(self.path, self.since) if self.since else 0
        return f"{self.path}:{before + self.number}"


class BadRow(UserError):
    """A row that cannot be used; the rest of its file can.

    Attributes:
        reason: the kind of defect, to count by.
        place: of the row.
    """

    def __init__(self, reason: Reason, place: RowPlace, message: str) -> None:
        """``message`` is ``field: what; fix``; the place is put before it only when the error is printed."""
        super().__init__(reason, place, message)
        self.reason, self.place, self._message = reason, place, message

    def __str__(self) -> str:
        return f"{self.place}: {self._message}"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One turn of a chat, in the fields that chat templates know.

    Attributes:
        content: empty only beside ``tool_calls`` and as the answer of a tool.
        name: of the speaker or the tool.
        reasoning_content: the assistant's thoughts, where they are kept apart from ``content``.
    """

    role: Role
    content: str = ""
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class DocumentRow(msgspec.Struct, frozen=True, gc=False):
    """A text; every token of it is a training target.

    Attributes:
        provenance: a JSON object, UTF-8: the fields of the row other than ``id`` and ``text``.
    """

    id: str
    text: str
    provenance: bytes
    place: RowPlace


class ChatRow(msgspec.Struct, frozen=True, gc=False):
    """A conversation; the assistant's tokens are the training targets.

    Attributes:
        messages: at least one.
        tools: JSON schemas of the tools that the assistant may call.
        provenance: a JSON object, UTF-8: the fields of the row other than ``id``, ``messages`` and ``tools``.
    """

    id: str
    messages: list[Message]
    tools: list[dict[str, Any]] | None
    provenance: bytes
    place: RowPlace


Row: TypeAlias = DocumentRow | ChatRow


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID = msgspec.json.Decoder(str | int | None)
_TEXT = msgspec.json.Decoder(str | None)
_MESSAGES = msgspec.json.Decoder(list[Message] | None)
_TOOLS = msgspec.json.Decoder(list[dict[str, Any]] | None)


def parse_row(line: bytes | memoryview, place: RowPlace, default_id: str) -> Row:
    """The document or chat that a line of JSON holds.

    Args:
        line: one JSON object, UTF-8.
        place: of the row.
        default_id: for a row without ``id``.

    Raises:
        BadRow: it holds neither; names the place and the field.
    """
    try:
        fields = _FIELDS.decode(line)
        name = _id(_pop(_ID, fields, "id", place), default_id, place)
        text = _pop(_TEXT, fields, "text", place)
        messages = _pop(_MESSAGES, fields, "messages", place)
        if (text is None) == (messages is None):
            found = "both are there" if text is not None else f"there is only {', '.join(fields) or 'nothing'}"
            raise BadRow("field", place, f"text: give text (a document) or messages (a chat); {found}")
        if text is not None:
            _check_text(text, place)
            return DocumentRow(name, text, _provenance(fields), place)
        assert messages is not None
        _check_messages(messages, place)
        tools = _pop(_TOOLS, fields, "tools", place)
        return ChatRow(name, messages, tools, _provenance(fields), place)
    except msgspec.ValidationError:
        raise _not_an_object(bytes(line), place) from None
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(bytes(line), place, error) from None


def _pop(decoder: msgspec.json.Decoder[T], fields: dict[str, msgspec.Raw], key: str, place: RowPlace) -> T | None:
    """The decoded field, taken out of ``fields``; None where it is not there."""
    raw = fields.pop(key, None)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        if key == "messages":
            return _without_nulls(decoder, raw, place)
        raise _wrong_type(error, key, place) from None


def _without_nulls(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw, place: RowPlace) -> T:
    """Messages with all the fields of their neighbours, null where they are not given, as tables have them."""
    values = msgspec.json.decode(raw)
    if isinstance(values, list):
        values = [_given(value) if isinstance(value, dict) else value for value in values]
    try:
        return decoder.decode(msgspec.json.encode(values))
    except msgspec.ValidationError as error:
        raise _wrong_type(error, "messages", place) from None


def _given(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}


def _id(value: str | int | None, default: str, place: RowPlace) -> str:
    if value is None:
        return default
    if value == "":
        raise BadRow("empty", place, "id: empty; give the row a name, or leave the field out")
    return str(value)


def _check_text(text: str, place: RowPlace) -> None:
    if not text or text.isspace():
        raise BadRow("empty", place, "text: empty; remove the row")


def _check_messages(messages: list[Message], place: RowPlace) -> None:
    if not messages:
        raise BadRow("empty", place, "messages: empty; give at least one, or remove the row")
    for index, message in enumerate(messages):
        if message.content and not message.content.isspace():
            continue
        if not message.tool_calls and message.role != "tool":
            raise BadRow("empty", place, f"messages[{index}].content: missing or empty; write it, or remove the row")


def _provenance(fields: dict[str, msgspec.Raw]) -> bytes:
    """The fields as one JSON object, parsed once, since their strings and numbers are unchecked so far."""
    if not fields:
        return b"{}"
    written = msgspec.json.encode(fields)
    orjson.loads(written)
    return written


def _wrong_type(error: msgspec.ValidationError, key: str, place: RowPlace) -> BadRow:
    """msgspec's ``Expected `str`, got `int` - at `$[0].content``` as ``messages[0].content: expected …``."""
    what, _, path = str(error).partition(" - at `$")
    reason: Reason = "field" if "field" in what or "enum" in what else "type"
    fix = "fix the row"
    if "unknown field" in what:
        fix = f"leave only {', '.join(Message.__struct_fields__)}"
    if "enum" in what:
        fix = f"give one of {', '.join(get_args(Role))}"
    return BadRow(reason, place, f"{key}{path.rstrip('`')}: {what[0].lower()}{what[1:]}; {fix}")


def _not_an_object(line: bytes, place: RowPlace) -> BadRow:
    try:
        found = type(orjson.loads(line)).__name__
    except orjson.JSONDecodeError as error:
        return _broken(line, place, error)
    return BadRow("type", place, f"expected a JSON object, found {found}; write one object a line")


def _broken(line: bytes, place: RowPlace, error: Exception) -> BadRow:
    """What is wrong with a line that is not JSON, in the words of the decoder that says more."""
    try:
        line.decode()
        orjson.loads(line)
    except UnicodeDecodeError as found:
        return BadRow("encoding", place, f"byte {found.start + 1}: not UTF-8 ({found.reason}); save the file as UTF-8")
    except orjson.JSONDecodeError as found:
        where = f"{found.msg}, column {found.colno}"
        if line.startswith(codecs.BOM_UTF8):
            return BadRow("encoding", place, "begins with a byte order mark; save the file without it")
        if "surrogate" in found.msg:
            return BadRow("encoding", place, f"half of a surrogate pair ({where}); write whole characters")
        return BadRow("json", place, f"not valid JSON ({where}); write one object a line, no blank lines")
    return BadRow("json", place, f"not usable JSON ({error}); fix the row")


@lru_cache
def _lines_before(path: str, offset: int) -> int:
    lines = 0
    with open(path, "rb") as file:
        while offset > 0 and (chunk := file.read(min(offset, 1 << 20))):
            lines += chunk.count(b"\n")
            offset -= len(chunk)
    return lines
