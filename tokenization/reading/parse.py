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
from typing import Any

import msgspec
import orjson

from tokenization.reading.fields import Fields, given, others, take, wrong_type
from tokenization.reading.formats import PLAIN, OtherShape, RowShape, likely_shape
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Message, Row, RowPlace

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ID = msgspec.json.Decoder(str | int | None)
_TEXT = msgspec.json.Decoder(str | None)
_MESSAGES: msgspec.json.Decoder[list[Message] | None] = msgspec.json.Decoder(list[Message] | None)
_TOOLS = msgspec.json.Decoder(list[dict[str, Any]] | None)


def parse_row(line: bytes | memoryview, place: RowPlace, default_id: str, shape: RowShape = PLAIN) -> Row:
    """The document or chat that a line of JSON holds.

    Args:
        line: one JSON object, UTF-8.
        place: of the row.
        default_id: for a row without ``id``.
        shape: how the row is written.

    Raises:
        BadRow: it holds neither; names the place and the field.
    """
    try:
        fields = shape.known_fields(_FIELDS.decode(line), place)
        name = _id(take(_ID, fields, "id", place), default_id, place)
        text = take(_TEXT, fields, "text", place) if shape.format == "plain" else None
        messages = _messages(fields, place)
        if (text is None) == (messages is None):
            raise _neither(fields, place) if text is None else _both(place)
        if text is not None:
            _check_text(text, place)
            return DocumentRow(name, text, _provenance(fields), place)
        assert messages is not None
        _check_messages(messages, place)
        tools = take(_TOOLS, fields, "tools", place)
        return ChatRow(name, messages, tools, _provenance(fields), place)
    except msgspec.ValidationError:
        raise _not_an_object(bytes(line), place) from None
    except (msgspec.DecodeError, orjson.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(bytes(line), place, error) from None


def _neither(fields: Fields, place: RowPlace) -> BadRow:
    what = f"text: give text (a document) or messages (a chat); {others(fields)}"
    shape = likely_shape(fields)
    return BadRow("field", place, what) if shape is None else OtherShape(place, what, shape)


def _both(place: RowPlace) -> BadRow:
    return BadRow("field", place, "text: give text (a document) or messages (a chat); both are there")


def _messages(fields: Fields, place: RowPlace) -> list[Message] | None:
    """The messages, taken out of ``fields``; where they are not written as we know them, once more, as we do."""
    raw = fields.pop("messages", None)
    if raw is None:
        return None
    try:
        return _MESSAGES.decode(raw)
    except msgspec.ValidationError:
        values = msgspec.json.decode(raw)
    if isinstance(values, list):
        values = [
            _in_one_text(value, f"messages[{number}]", place) if isinstance(value, dict) else value
            for number, value in enumerate(given(values, deep=False))
        ]
    try:
        return _MESSAGES.decode(msgspec.json.encode(values))
    except msgspec.ValidationError as error:
        raise wrong_type(error, "messages", place) from None


def _in_one_text(message: dict[str, Any], where: str, place: RowPlace) -> dict[str, Any]:
    """A message with its text in one string where it comes in parts."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    return message | {"content": "".join(_part(part, f"{where}.content[{n}]", place) for n, part in enumerate(parts))}


def _part(part: Any, where: str, place: RowPlace) -> str:
    """The text of one part, ``{"type": "text", "text": …}``."""
    if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    found = part.get("type") if isinstance(part, dict) else type(part).__name__
    what = f'{where}: expected a part {{"type": "text", "text": …}}, found {found}; only texts can be trained on'
    raise BadRow("type", place, f"{what}: remove the row")


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


def _provenance(fields: Fields) -> bytes:
    """The fields as one JSON object, parsed once, since their strings and numbers are unchecked so far."""
    if not fields:
        return b"{}"
    written = msgspec.json.encode(fields)
    orjson.loads(written)
    return written


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
