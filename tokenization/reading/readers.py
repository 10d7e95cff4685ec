"""What every kind of corpus file offers: an axis, and the rows that start on a range of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

from msm_hpc.base.errors import UserError
from tokenization.reading.formats import PLAIN, RowShape
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


class CorpusReader(Protocol):
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
        """The span of the units that start in ``[begin, end)``; empty if none do.

        Neighbouring ranges have neighbouring spans, and the span of the whole axis is the whole file.

        Raises:
            UserError: the file cannot be read.
        """

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """The rows of a span.

        Args:
            begin: of the span.
            end: of the span.
            seen: is called with the span's bytes, in order, as they are read; for a data set, with its rows as JSON.

        Raises:
            UserError: the file cannot be read to the end of the span.
        """


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Names the file in the error of a failing system call."""
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise UserError(f"{name}: cannot be read ({error.strerror or error}); fix or remove it") from error


@dataclass(frozen=True)
class CorpusFile:
    """What the kinds of files have in common: their axis is their bytes.

    Attributes:
        name: the path within the corpus.
        shape: how its rows are written.
    """

    path: Path
    name: str
    size: int
    shape: RowShape = PLAIN
    scale: ClassVar[int] = 1

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    def blocks(self, begin: int, end: int, seen: Seen) -> Iterator[bytes]:
        """The bytes ``[begin, end)``; ``seen`` is called with each block.

        Raises:
            UserError: the file cannot be read to ``end``.
        """
        with readable(self.label), self.path.open("rb", buffering=0) as file:
            file.seek(begin)
            while begin < end:
                block = file.read(min(BLOCK_BYTES, end - begin))
                if not block:
                    raise UserError(f"{self.path}: ends at byte {begin} of {self.size}; it changed while it was read")
                seen(block)
                begin += len(block)
                yield block


def package(name: str, path: str) -> Any:
    """A library that only some corpora need, imported only for them: start-up time counts.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{path}: needs {name} ({error}); pip install {name.partition('.')[0]}") from error
