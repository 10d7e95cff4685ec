"""The tool calls in an agent's reply, also where their XML is damaged.

A call counts that stands after the thinking and is not quoted. Not calls, then: what is inside ``<scratchpad>`` or
``<think>`` (one that is never closed reaches to the end), inside `inline code`, on a line that begins with ``>``, or
inside a field of another call. Calls in a fenced block count, since many models fence theirs; so do calls whose own end
is missing, fields given as attributes, and names with an ending (``message_id`` is ``message``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FIELDS = (
    *("to", "cc", "bcc", "subject", "body", "attachments", "message", "comment"),
    *("source", "destination", "ticket", "note", "incident", "code", "reason", "text"),
)

_CLOSED_THINKING = re.compile(r"<(scratchpad|think)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_END_OF_THINKING = re.compile(r"\A.*</(?:scratchpad|think)>", re.DOTALL | re.IGNORECASE)
_OPEN_THINKING = re.compile(r"<(?:scratchpad|think)>.*\Z", re.DOTALL | re.IGNORECASE)
_INLINE_CODE = re.compile(r"(?<!`)`[^`\n]+`(?!`)")
_CALL = re.compile(
    r"<call\b\s*(?:(?:tool|name)\s*=\s*)?[\"']?(?P<tool>\w+)(?P<attributes>[^>\n]*?)(?P<whole>/?)>", re.IGNORECASE
)
_ATTRIBUTE = re.compile(rf"\b({'|'.join(FIELDS)})(?:_\w+)?\s*=\s*[\"']([^\"'\n]*)[\"']", re.IGNORECASE)
_INSIDE = re.compile(rf"<(?P<field>{'|'.join(FIELDS)})(?:_\w+)?>|</call\s*>|<call\b", re.IGNORECASE)


@dataclass(frozen=True)
class ToolCall:
    """A call that a reply makes: the tool's name, and its fields in lower case with stripped text."""

    tool: str
    fields: Mapping[str, str]


def tool_calls(reply: str) -> tuple[ToolCall, ...]:
    """The calls of a reply, in order."""
    text = _without_thinking(reply)
    quoted = [match.span() for match in _INLINE_CODE.finditer(text)]
    calls: list[ToolCall] = []
    position = 0
    while opening := _CALL.search(text, position):
        position = opening.end()
        if _is_quoted(text, opening.start(), quoted):
            continue
        fields = {name.lower(): value.strip() for name, value in _ATTRIBUTE.findall(opening["attributes"])}
        if not opening["whole"]:
            inside, position = _fields(text, position)
            fields |= inside
        calls.append(ToolCall(opening["tool"].lower(), fields))
    return tuple(calls)


def _without_thinking(reply: str) -> str:
    """What follows the thinking; its first tag may be missing, since some chat templates put it into the prompt."""
    text = _CLOSED_THINKING.sub("", reply)
    text = _END_OF_THINKING.sub("", text)
    return _OPEN_THINKING.sub("", text)


def _is_quoted(text: str, start: int, inline_code: list[tuple[int, int]]) -> bool:
    line = text[text.rfind("\n", 0, start) + 1 : start]
    return line.lstrip().startswith(">") or any(first <= start < last for first, last in inline_code)


def _fields(text: str, position: int) -> tuple[dict[str, str], int]:
    """The fields of the call whose opening tag ends at ``position``, and where the call ends."""
    fields: dict[str, str] = {}
    while found := _INSIDE.search(text, position):
        if not found["field"]:
            return fields, found.end() if found[0].startswith("</") else found.start()
        name = found["field"].lower()
        value, position = _value(text, found.end(), name)
        fields[name] = value.strip()
    return fields, len(text)


def _value(text: str, start: int, name: str) -> tuple[str, int]:
    """A field's text and where it ends: at its own closing tag, or where that is missing at the next tag of a call."""
    depth = 1
    for tag in re.finditer(rf"<(/?){name}(?:_\w+)?\s*>", text[start:], re.IGNORECASE):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return text[start : start + tag.start()], start + tag.end()
    following = _INSIDE.search(text, start)
    end = following.start() if following else len(text)
    return text[start:end], end
