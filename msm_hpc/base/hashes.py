"""Hashes of a result's files: SHA-256 to know it by, XXH3 to find damage as fast as the files can be read.

Files are streamed, several at once: hashing releases the GIL, and one thread is slower than a good disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import xxhash

from msm_hpc.base.files import sync

THREADS = 8
_BLOCK = 1 << 20  # stays in a core's cache between the read and the hash
S = TypeVar("S")
T = TypeVar("T")


class _Hash(Protocol):
    def update(self, data: memoryview, /) -> None: ...


@dataclass(frozen=True)
class FileHashes:
    """What is published of a file."""

    sha256: str
    xxh3: str
    bytes: int


def hashes_of(file: Path) -> FileHashes:
    """Both hashes of a file that was just written, which is on disk when this returns."""
    sha256, xxh3 = hashlib.sha256(), xxhash.xxh3_128()
    size = _stream(file, sha256, xxh3)
    sync(file)
    return FileHashes(sha256.hexdigest(), xxh3.hexdigest(), size)


def xxh3_of(file: Path) -> str:
    """XXH3 of 128 bits, in hexadecimal."""
    xxh3 = xxhash.xxh3_128()
    _stream(file, xxh3)
    return xxh3.hexdigest()


def leave_cache(file: Path) -> None:
    """Let the next read of a file, if there is one, come from the disk and not from the page cache."""
    with contextlib.suppress(OSError), file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def each(function: Callable[[S], T], files: Sequence[S]) -> list[T]:
    """``function`` of every file, several at once."""
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        return list(threads.map(function, files))


def _stream(file: Path, *hashes: _Hash) -> int:
    size, buffer = 0, memoryview(bytearray(_BLOCK))
    with file.open("rb", buffering=0) as opened:
        while count := opened.readinto(buffer):
            for each_hash in hashes:
                each_hash.update(buffer[:count])
            size += count
    return size
