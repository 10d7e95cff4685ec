"""A ``.json`` file: one list of rows, as data sets of chats are often published, or JSON lines under that ending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from msm_hpc.base.errors import UserError
from tokenization.reading.formats import RowShape
from tokenization.reading.lines import PlainLines
from tokenization.reading.parse import parse_row
from tokenization.reading.readers import BATCH_BYTES, Batch, CorpusFile, CorpusReader, Seen, readable
from tokenization.reading.rows import BadRow, Row, RowPlace

_ROWS = msgspec.json.Decoder(list[msgspec.Raw])


def json_file(path: Path, name: str, size: int, shape: RowShape) -> CorpusReader:
    """What reads a ``.json`` file: a list begins with ``[``, a line with an object."""
    with readable(str(path)), path.open("rb") as file:
        begins = file.read(1024).lstrip()
    return (JsonList if begins.startswith(b"[") else PlainLines)(path, name, size, shape)


@dataclass(frozen=True)
class JsonList(CorpusFile):
    """One list, read into memory whole. Rows without an id are named ``name:row``."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The whole file, where the range has byte 0; see ``CorpusReader``."""
        return (0, self.size) if begin == 0 < end else (end, end)

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """All its rows; see ``CorpusReader``."""
        text = b"".join(self.blocks(begin, end, seen))
        try:
            rows = _ROWS.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: not a JSON list of rows ({error}); fix it, or write JSON lines") from error
        batch, size = list[Row | BadRow](), 0
        for number, row in enumerate(rows, start=1):
            try:
                batch.append(
                    parse_row(row, RowPlace(self.label, number, unit="row"), f"{self.name}:{number}", self.shape)
                )
            except BadRow as error:
                batch.append(error)
            size += memoryview(row).nbytes
            if size >= BATCH_BYTES:
                yield batch
                batch, size = list[Row | BadRow](), 0
        if batch:
            yield batch
