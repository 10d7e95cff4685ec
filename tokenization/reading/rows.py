"""One row of a corpus: a document or a chat, or why it is neither."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from msm_hpc.base.errors import UserError

Role = Literal["system", "user", "assistant", "tool"]
Reason = Literal["json", "encoding", "field", "type", "empty", "chat", "special", "untrainable"]


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


@lru_cache
def _lines_before(path: str, offset: int) -> int:
    lines = 0
    with open(path, "rb") as file:
        while offset > 0 and (chunk := file.read(min(offset, 1 << 20))):
            lines += chunk.count(b"\n")
            offset -= len(chunk)
    return lines
