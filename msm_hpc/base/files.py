"""Writing that survives a kill (a reader sees the old file or the new one, never a part), and reading with checks."""

from __future__ import annotations

import codecs
import errno
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from msm_hpc.base.errors import UserError

Row = TypeVar("Row")

CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
"""``errno`` of an error that the user can mend: room, or rights."""


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write ``text`` under a temporary name in the same folder, fsync it if ``durable``, and rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def write_json(path: Path, value: Any) -> None:
    """:func:`write_text` of ``value`` as indented JSON with sorted keys."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file that this package wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """:func:`write_text` of one JSON object a line; returns the number of lines."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(line + "\n" for line in lines))
    return len(lines)


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """The lines of a JSON-lines file as instances of the dataclass ``kind``; row ``i`` is line ``i + 1``.

    Types are strict (``"1"`` is no number); keys that ``kind`` does not have are ignored.

    Raises:
        UserError: a line is not such an object; names file, line and field, and what was expected.
    """
    adapter = TypeAdapter(kind)
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(adapter.validate_json(line, strict=True))
            except ValidationError as error:
                raise UserError(f"{path}:{number}: {_explain(error.errors()[0], line)}") from error
    return rows


def _explain(problem: ErrorDetails, line: bytes) -> str:
    """One pydantic problem of a line as ``field: what is wrong; what to do``."""
    field = "".join(f"{part}: " for part in problem["loc"])
    if problem["type"] == "json_invalid" and not line.strip():
        return "a blank line; remove it"
    if problem["type"] == "json_invalid" and line.startswith(codecs.BOM_UTF8):
        return "begins with a byte order mark; save the file without it"
    if problem["type"] == "json_invalid":
        reason, _, _ = str(problem["ctx"]["error"]).partition(" at line")
        return f"not valid JSON ({reason}); mend this line; if the file is damaged, make it again"
    if problem["type"] == "missing":
        return f"{field}missing; every row needs this field"
    return f"{field}{problem['msg']}, found {problem['input']!r}; correct this row"
