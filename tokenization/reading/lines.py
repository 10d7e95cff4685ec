"""JSON lines, plain or compressed, read in blocks.

A plain file is split over tasks by bytes: a task takes the lines that *begin* in its range, so each line is taken
once, whatever the number of tasks. With 2 tasks::

    {"id": "a", "text": "a long line"}\\n{"id": "b", "text": "short"}\\n
    |------------ task 0 ------------:---|----------- task 1 -----|

A compressed file can only be read from its beginning: it is one unit, which begins at byte 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from msm_hpc.base.errors import UserError
from tokenization.reading.parse import parse_row
from tokenization.reading.readers import BATCH_BYTES, BLOCK_BYTES, Batch, CorpusFile, Seen, package, readable
from tokenization.reading.rows import BadRow, RowPlace

COMPRESSED_BYTES = 64 << 10
"""Decompressed at once: text that shrinks a thousandfold still fits in memory."""


class Decompressor(Protocol):
    """One compressed stream, of ``zlib`` or ``zstandard``."""

    @property
    def eof(self) -> bool:
        """Whether the stream ended; false where its file is cut short."""

    @property
    def unused_data(self) -> bytes:
        """What came after the end: the next stream."""

    def decompress(self, data: bytes, /) -> bytes:
        """What these bytes hold."""


@dataclass(frozen=True)
class PlainLines(CorpusFile):
    """A file of JSON lines. Rows without an id are named ``name:byte``."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The lines that begin in the range; see ``CorpusReader``."""
        with readable(self.label):
            return self._line_start(begin), self._line_start(end)

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """Their rows; see ``CorpusReader``."""
        return _parsed(self.blocks(begin, end, seen), self, begin)

    def _line_start(self, position: int) -> int:
        """Offset of the first line that begins at or after ``position``."""
        if position == 0 or position >= self.size:
            return min(position, self.size)
        with self.path.open("rb") as file:
            file.seek(position - 1)
            while chunk := file.read(BLOCK_BYTES):
                if (found := chunk.find(b"\n")) >= 0:
                    return file.tell() - len(chunk) + found + 1
        return self.size


@dataclass(frozen=True)
class CompressedLines(CorpusFile):
    """A file of JSON lines in gzip or Zstandard. Rows without an id are named ``name:byte``, bytes of the text."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The whole file, where the range has byte 0; see ``CorpusReader``."""
        return (0, self.size) if begin == 0 < end else (end, end)

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """All its rows; see ``CorpusReader``."""
        assert (begin, end) == (0, self.size)
        return _parsed(self._blocks(seen), self, 0)

    def _blocks(self, seen: Seen) -> Iterator[bytes]:
        """The file decompressed: one stream, or several one after another, as ``cat a.gz b.gz`` makes."""
        start, errors = _decompressor(self.path)
        stream, offset = start(), 0
        with readable(self.label), self.path.open("rb", buffering=0) as file:
            while data := file.read(COMPRESSED_BYTES):
                seen(data)
                offset += len(data)
                while data:
                    if stream.eof:
                        stream = start()
                    try:
                        yield stream.decompress(data)
                    except errors as error:
                        raise UserError(
                            f"{self.path}: damaged before byte {offset} ({error}); copy it again"
                        ) from error
                    data = stream.unused_data
        if not stream.eof:
            raise UserError(f"{self.path}: cut short at byte {offset}; copy it again")


def _parsed(blocks: Iterator[bytes], file: CorpusFile, begin: int) -> Iterator[Batch]:
    """The rows of the lines that begin at byte ``begin`` of the text."""
    batch: Batch = []
    number, offset, batch_begin = 1, begin, begin
    for lines in _split(blocks):
        for line in lines:
            try:
                place = RowPlace(file.label, number, begin)
                batch.append(parse_row(line, place, f"{file.name}:{offset}", file.shape))
            except BadRow as error:
                batch.append(error)
            number += 1
            offset += len(line) + 1
            if offset - batch_begin >= BATCH_BYTES:
                yield batch
                batch, batch_begin = [], offset
    if batch:
        yield batch


def _split(blocks: Iterator[bytes]) -> Iterator[list[memoryview]]:
    r"""Lines without their ``\n``, as far as each block completes them; a line may be longer than any block."""
    parts: list[bytes] = []
    for block in blocks:
        end = block.find(b"\n")
        if end < 0:
            parts.append(block)
            continue
        lines = [memoryview(b"".join([*parts, block[:end]]))]
        view, begin = memoryview(block), end + 1
        while (end := block.find(b"\n", begin)) >= 0:
            lines.append(view[begin:end])
            begin = end + 1
        yield lines
        parts = [block[begin:]]
    if rest := b"".join(parts):
        yield [memoryview(rest)]


def _decompressor(path: Path) -> tuple[Callable[[], Decompressor], type[Exception]]:
    """What opens a stream of the file, and what that raises where the stream is damaged."""
    if path.suffix == ".gz":
        return (lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)), zlib.error
    zstandard = package("zstandard", str(path))
    return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj, zstandard.ZstdError
