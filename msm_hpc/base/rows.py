"""JSON-lines files as dataclasses, checked line by line."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from msm_hpc.base.errors import UserError

Row = TypeVar("Row")


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
        return f"not valid JSON ({reason}); fix this line; if the file is damaged, make it again"
    if problem["type"] == "missing":
        return f"{field}missing; every row needs this field"
    return f"{field}{problem['msg']}, found {problem['input']!r}; correct this row"
