"""Corpus files of each format, and the rows that are read of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tokenization.reading.corpus import Corpus
from tokenization.reading.readers import InputRecord
from tokenization.reading.rows import BadRow, Row

Write = Callable[[Path, Sequence[dict[str, Any]]], None]


def lines(rows: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def plain(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_bytes(lines(rows))


def gz(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_bytes(gzip.compress(lines(rows)))


def zst(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_bytes(zstandard.compress(lines(rows)))


def listed(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pa.table({key: [row.get(key) for row in rows] for key in columns})
    pq.write_table(table, path, row_group_size=4)


FORMATS: dict[str, Write] = {
    "a.jsonl": plain,
    "c.ndjson": plain,
    "d.jsonl.gz": gz,
    "e.ndjson.zst": zst,
    "f.parquet": parquet,
    "g.json": listed,
    "h.json": plain,
}


def documents(first: int, count: int) -> list[dict[str, Any]]:
    return [{"id": f"d{n}", "text": "é" * (n * 13 % 50 + 1), "n": n} for n in range(first, first + count)]


def rows_of(source: Path | str, task: int = 0, tasks: int = 1) -> tuple[list[Row | BadRow], tuple[InputRecord, ...]]:
    share = Corpus.open(source).share(task, tasks)
    return [row for batch in share.batches() for row in batch], share.inputs()


def ids(source: Path | str, tasks: int = 1) -> list[str]:
    rows = [row for task in range(tasks) for row in rows_of(source, task, tasks)[0]]
    assert not [str(row) for row in rows if isinstance(row, BadRow)]
    return [row.id for row in rows if not isinstance(row, BadRow)]


def bad_rows(source: Path | str) -> list[str]:
    return [str(row) for row in rows_of(source)[0] if isinstance(row, BadRow)]
