"""Files: writing that survives a kill (a reader sees the old file or the new one, never a part), reading, hashing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES})
"""``errno`` of an error that the user can fix: no space, or no permission."""


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A new file that appears as ``path`` when the block ends; after an exception nothing is left of it.

    It is written under a temporary name in the same folder, fsynced if ``durable``, and renamed. Its permissions are
    those that the umask gives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # still there only after an exception


def write_bytes(path: Path, data: bytes, durable: bool = True) -> None:
    """Write ``data`` to ``path``, whole or not at all; see :func:`atomic`."""
    with atomic(path, durable) as file:
        file.write(data)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """:func:`write_bytes` of ``text`` in UTF-8."""
    write_bytes(path, text.encode(), durable)


def write_json(path: Path, value: Any) -> None:
    """:func:`write_text` of ``value`` as indented JSON with sorted keys."""
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def write_own_json(path: Path, value: Any) -> None:
    """:func:`write_json` of a file that nobody else may write to, whatever the umask; others may replace it."""
    with atomic(path) as file:
        os.fchmod(file.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~_OTHERS_WRITE)
        file.write(_json(value).encode())


def read_own(path: Path) -> bytes:
    """What is in a file that nobody but this user can have written.

    Raises:
        PermissionError: it is another user's, or others may write to it.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
            raise PermissionError(errno.EPERM, "others can have written it", str(path))
        return file.read()


def read_json(path: Path) -> Any:
    """The value in a JSON file that this package wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """:func:`write_text` of one JSON object a line; returns the number of lines."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(path, "".join(line + "\n" for line in lines))
    return len(lines)


def sha256_of(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
