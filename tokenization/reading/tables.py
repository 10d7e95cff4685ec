"""Tables: Parquet files and ``datasets`` data sets. Each row becomes a line of JSON, and is then read as one.

A Parquet file is split over tasks by row groups, which are the smallest part that can be read alone. Its axis is the
bytes of the file all the same, so that it can stand among files of lines; a data set has an axis of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from msm_hpc.base.errors import UserError
from tokenization.reading.fields import given
from tokenization.reading.formats import RowShape
from tokenization.reading.hub import NAMED, DatasetName
from tokenization.reading.parse import parse_row
from tokenization.reading.readers import BATCH_BYTES, BLOCK_BYTES, Batch, CorpusFile, Seen, package
from tokenization.reading.rows import BadRow, RowPlace

TABLE_ROWS = 256
"""Rows made Python objects at once; how large they are is known only then."""

CHAT_FIELDS = ("messages", "tools", "conversations")
ARROW_END = b"\xff\xff\xff\xff\0\0\0\0"
"""End of an Arrow stream: continuation mark, length 0 (https://arrow.apache.org/docs/format/Columnar.html)."""


@dataclass(frozen=True)
class Parquet(CorpusFile):
    """A Parquet file. Rows without an id are named ``name:row``."""

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The row groups that begin in the range; see ``CorpusReader``."""
        with self._open() as file:
            bounds = self._bounds(file)
        inside = [index for index, start in enumerate(bounds[:-1]) if begin <= start < end]
        return (bounds[inside[0]], bounds[inside[-1] + 1]) if inside else (end, end)

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """Their rows; see ``CorpusReader``."""
        with self._open() as file:
            bounds = self._bounds(file)
            if not {begin, end} <= set(bounds):
                raise UserError(f"{self.path}: its row groups changed while it was read; tokenise again")
            groups = range(bounds.index(begin), bounds.index(end))
            rows_before = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
            tables = self._tables(file, groups, bounds, seen)
            yield from _parsed(tables, self, rows_before + 1)

    def _open(self) -> Any:
        with arrow_errors(self.label):
            return package("pyarrow.parquet", self.label).ParquetFile(
                self.path, buffer_size=BLOCK_BYTES, pre_buffer=False, page_checksum_verification=True
            )

    def _bounds(self, file: Any) -> list[int]:
        """The byte at which each row group begins, and the size: the first has the file's head, the last its foot."""
        if not file.metadata.num_columns:
            raise UserError(f"{self.path}: has no columns; write text or messages")
        bounds = [self.size]
        for group in range(file.metadata.num_row_groups - 1, 0, -1):
            column = file.metadata.row_group(group).column(0)
            bounds.append(min(bounds[-1], column.dictionary_page_offset or column.data_page_offset))
        return [0, *reversed(bounds)] if file.metadata.num_row_groups else bounds

    def _tables(self, file: Any, groups: range, bounds: Sequence[int], seen: Seen) -> Iterator[Any]:
        for group in groups:
            # Hashed just before pyarrow reads these bytes, which then come from memory.
            for _ in self.blocks(bounds[group], bounds[group + 1], seen):
                pass
            with arrow_errors(f"{self.path}: row group {group}"):
                yield from file.iter_batches(TABLE_ROWS, row_groups=[group], use_threads=False)


@dataclass(frozen=True)
class DatasetRows:
    """A ``datasets.Dataset``. Rows without an id are named ``name:row``."""

    dataset: Any
    label: str
    name: str
    shape: RowShape

    @property
    def size(self) -> int:
        """Rows."""
        return len(self.dataset)

    @property
    def scale(self) -> int:
        """Bytes of a row."""
        table = self.dataset.data
        return max(1, int(table.nbytes) // max(1, int(table.num_rows)))

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """The range; see ``CorpusReader``."""
        return begin, end

    def read(self, begin: int, end: int, seen: Seen) -> Iterator[Batch]:
        """The rows; see ``CorpusReader``."""
        return _parsed(self._tables(begin, end), self, begin + 1, seen)

    def _tables(self, begin: int, end: int) -> Iterator[Any]:
        arrow = self.dataset.with_format("arrow")
        with arrow_errors(self.label):
            for first in range(begin, end, TABLE_ROWS):
                yield arrow[first : min(first + TABLE_ROWS, end)]


def load_saved_dataset(folder: Path, shape: RowShape) -> DatasetRows:
    """A data set that ``datasets`` saved with ``save_to_disk``.

    Raises:
        UserError: it is not one, or a file of it is damaged.
    """
    for path in folder.glob("*.arrow"):
        _check_end(path)
    with dataset_errors(str(folder)) as datasets:
        return DatasetRows(datasets.load_from_disk(folder), str(folder), folder.name, shape)


def load_dataset(source: str, shape: RowShape) -> DatasetRows:
    """A data set by name, from the cache or the hub.

    Raises:
        UserError: there is none of that name, or it cannot be reached.
    """
    named = DatasetName.parse(source)
    assert named is not None
    with dataset_errors(source):
        return DatasetRows(fetch(named), source, source.removeprefix(NAMED), shape)


def fetch(named: DatasetName) -> Any:
    """The ``datasets.Dataset`` of a name; see :func:`dataset_errors`."""
    datasets = package("datasets", f"{NAMED}{named.name}")
    return datasets.load_dataset(named.name, named.subset, split=named.split, revision=named.revision)


@contextmanager
def dataset_errors(source: str) -> Iterator[Any]:
    """Names the data set in the error of a failing call of ``datasets``, which is yielded."""
    datasets = package("datasets", source)
    with arrow_errors(source):
        try:
            yield datasets
        except (ValueError, LookupError, TypeError, AttributeError, datasets.exceptions.DatasetsError) as error:
            raise UserError(f"{source}: not a data set ({error}); name another, or save it again") from error
        except ConnectionError as error:
            raise UserError(
                f"{source}: the hub cannot be reached ({error}); download it where there is network, with the same "
                "HF_HOME, or save its rows as a file and name that"
            ) from error


def _check_end(path: Path) -> None:
    """Arrow takes a stream cut after any record for a whole one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(ARROW_END)))
        if file.read() != ARROW_END:
            raise UserError(f"{path}: cut short; copy it again")


def _parsed(
    tables: Iterator[Any], of: Parquet | DatasetRows, first_row: int, seen: Seen | None = None
) -> Iterator[Batch]:
    """The rows of Arrow tables, the first of which is row ``first_row``; ``seen`` gets each line of JSON."""
    batch: Batch = []
    size = 0
    chat_fields = {of.shape.columns.get(name, name) for name in CHAT_FIELDS}
    for number, values in enumerate((values for table in tables for values in _values(table)), start=first_row):
        place = RowPlace(of.label, number, unit="row")
        try:
            line = _json(values, place, chat_fields)
            size += len(line)
            if seen is not None:
                seen(line + b"\n")
            batch.append(parse_row(line, place, f"{of.name}:{number}", of.shape))
        except BadRow as error:
            batch.append(error)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _values(table: Any) -> list[dict[str, Any] | Exception]:
    """The rows as Python objects; where they cannot all be that, each alone, or why it cannot."""
    try:
        return list(table.to_pylist())
    except (ValueError, OverflowError) as error:
        if table.num_rows == 1:
            return [error]
    return [values for row in range(table.num_rows) for values in _values(table.slice(row, 1))]


def _json(values: dict[str, Any] | Exception, place: RowPlace, chat_fields: Set[str]) -> bytes:
    if isinstance(values, UnicodeDecodeError):
        raise BadRow("encoding", place, f"not UTF-8 ({values}); write the table again")
    if isinstance(values, Exception):
        raise BadRow("type", place, f"cannot be read ({values}); write the table again")
    try:
        return orjson.dumps({k: given(value, deep=True) if k in chat_fields else value for k, value in values.items()})
    except TypeError as error:
        raise BadRow("type", place, f"{_unjson(values)}: {error}; convert or drop the column") from error


def _unjson(values: dict[str, Any]) -> str:
    """The first field that JSON has no form for."""
    for key, value in values.items():
        try:
            orjson.dumps(value)
        except TypeError:
            return key
    raise AssertionError("each field alone is JSON")


@contextmanager
def arrow_errors(path: str) -> Iterator[None]:
    """Names the file in the error of a failing Arrow call."""
    arrow = package("pyarrow", path)
    try:
        yield
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy or write it again") from error
