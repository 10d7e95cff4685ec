"""JSON as dataclasses, also of files that may be torn: a machine that lost power leaves empty and cut ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

T = TypeVar("T")


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """What checks and writes values of a type; made once, and only when it is asked for, since that takes long."""
    made: TypeAdapter[T] = _made(cast(Any, kind))
    return made


@cache
def _made(kind: Any) -> Any:
    return TypeAdapter(kind)


def read_if_whole(path: Path, kind: type[T]) -> T | None:
    """What a JSON file holds; None where there is none, or a torn one: empty, cut short, or of other content."""
    try:
        return adapter(kind).validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
