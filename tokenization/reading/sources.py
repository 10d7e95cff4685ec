"""What every kind of corpus file offers: an axis, and the rows that begin on a range of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from tokenization.errors import BadInput
from tokenization.reading.rows import BadRow, Row

BATCH_BYTES = 1 << 20
"""Input of one batch: what is made of it stays in the processor's cache, and it is many rows all the same."""

BLOCK_BYTES = 256 << 10
"""Read, hashed and split at once: fits in the processor's cache, which makes it twice as fast."""

Batch: TypeAlias = list[Row | BadRow]
Seen: TypeAlias = Callable[[bytes], object]


@dataclass(frozen=True)
class InputRecord:
    """What a task read of one file.

    Attributes:
        path: the file, or the name of a data set.
        begin: first byte, or first row of a data set.
        end: one past the last.
        sha256: of these bytes; of a data set, of its rows as lines of JSON.
    """

    path: str
    begin: int
    end: int
    sha256: str


class Source(Protocol):
    """A file or data set. Its units (lines, row groups, …) begin at places of the axis ``[0, size)``."""

    @property
    def label(self) -> str:
        """The path of the file, or the name of the data set, for messages."""

    @property
    def size(self) -> int:
        """Length of the axis: bytes of a file, rows of a data set."""

    @property
    def scale(self) -> int:
        """About how many bytes one step of the axis is."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """From where to where the units go that begin in ``[begin, end)``; equal where there are none.

        The spans of ranges that touch do so too, and that of the whole axis is the whole file.

        Raises:
            BadInput: the file cannot be read.
        """

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """The rows of a span.

        Args:
            begin: of the span.
            end: of the span.
            seen: is told of the span's bytes, in their order, as they are read; of a data set, of its rows as JSON.

        Raises:
            BadInput: the file cannot be read to the end of the span.
        """


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Says of a failing system call which file it was about."""
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise BadInput(f"{name}: cannot be read ({error.strerror or error}); mend or remove it") from error


@dataclass(frozen=True)
class CorpusFile:
    """What the kinds of files have in common: their axis is their bytes; ``name`` is the path within the corpus."""

    path: Path
    name: str
    size: int
    scale: ClassVar[int] = 1

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def blocks(self, begin: int, end: int, seen: Seen) -> Iterator[bytes]:
        """The bytes ``[begin, end)``, of which ``seen`` is told.

        Raises:
            BadInput: the file cannot be read to ``end``.
        """
        with readable(self.label), self.path.open("rb", buffering=0) as file:
            file.seek(begin)
            while begin < end:
                block = file.read(min(BLOCK_BYTES, end - begin))
                if not block:
                    raise BadInput(f"{self.path}: ends at byte {begin} of {self.size}; it changed while it was read")
                seen(block)
                begin += len(block)
                yield block


def package(name: str, path: str) -> Any:
    """A library that only some corpora need, imported where one does: start-up time counts.

    Raises:
        BadInput: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BadInput(f"{path}: needs {name} ({error}); pip install {name.partition('.')[0]}") from error
