"""JSON files as dataclasses, where the file may be torn: a machine that lost power leaves empty and cut ones."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def read_if_whole(path: Path, adapter: TypeAdapter[T]) -> T | None:
    """What a JSON file holds; None where there is none, or a torn one: empty, cut short, or of other content."""
    try:
        return adapter.validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
