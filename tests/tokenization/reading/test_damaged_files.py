"""Corpus files that are damaged, cut short or changed while they are read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from msm_hpc.base.errors import UserError
from tests.tokenization.reading.corpus_files import FORMATS, bad_rows, documents, ids, lines, parquet, rows_of
from tokenization.reading.corpus import Corpus
from tokenization.reading.rows import BadRow


@pytest.mark.parametrize("name", ["a.jsonl", "d.jsonl.gz"])
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, name: str) -> None:
    good = lines(documents(0, 9)).split(b"\n")[:9]
    text = b"\n".join([*good[:4], b'{"id": "b", "text": 3}', b"", *good[4:]])
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    for tasks in (1, 3):
        rows = [row for task in range(tasks) for row in rows_of(path, task, tasks)[0]]
        assert [index for index, row in enumerate(rows) if isinstance(row, BadRow)] == [4, 5]
        assert str(rows[4]).startswith(f"{path}:5: text: expected")
        assert str(rows[5]).startswith(f"{path}:6: not valid JSON")


def test_several_compressed_streams_in_one_file_are_one_text(tmp_path: Path) -> None:
    text = lines(documents(0, 9))
    for name, compress in (("a.jsonl.gz", gzip.compress), ("b.jsonl.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(compress(text[:100]) + compress(b"") + compress(text[100:]))
        assert ids(tmp_path / name) == [f"d{n}" for n in range(9)]


@pytest.mark.parametrize("name", ["d.jsonl.gz", "e.ndjson.zst", "f.parquet"])
@pytest.mark.parametrize("keep", [0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_an_error_and_no_end(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    FORMATS[name](path, documents(0, 500))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UserError, match=name) as caught:
        rows_of(path)
    assert not isinstance(caught.value, BadRow)


@pytest.mark.parametrize("name", ["d.jsonl.gz", "e.ndjson.zst", "f.parquet"])
def test_what_does_not_belong_at_the_end_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FORMATS[name](path, documents(0, 9))
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(UserError, match=rf"{name}: .*(byte \d+|footer)"):
        rows_of(path)


@pytest.mark.parametrize("name", ["d.jsonl.gz", "e.ndjson.zst"])
def test_a_damaged_stream_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(
        gzip.compress(lines(documents(0, 500)))
        if name.endswith("gz")
        else zstandard.ZstdCompressor(write_checksum=True).compress(lines(documents(0, 500)))
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{name}: damaged before byte \d+"):
        rows_of(path)


def test_a_damaged_page_of_parquet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(documents(0, 9)), path, row_group_size=3, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.parquet: row group 1: cannot be read"):
        rows_of(path)


def test_columns_that_json_has_no_form_for_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x", "y"], "raw": pa.array([b"\0", None], pa.binary())}), path)
    assert bad_rows(path) == [
        f"{path}:row 1: raw: Type is not JSON serializable: bytes; convert or drop the column",
    ]


def test_text_in_a_table_that_is_not_utf8_spoils_its_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.Array.from_buffers(
        pa.string(),
        3,
        [None, pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in range(4))), pa.py_buffer(b"a\xffc")],
    )
    pq.write_table(pa.table({"text": text}), path)
    rows, _ = rows_of(path)
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False]
    assert isinstance(rows[1], BadRow)
    assert rows[1].reason == "encoding"
    assert str(rows[1]).startswith(f"{path}:row 2: not UTF-8")


def test_a_parquet_file_without_rows_or_columns(tmp_path: Path) -> None:
    schema = pa.schema({"text": pa.string()})
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    pq.ParquetWriter(tmp_path / "no-groups.parquet", schema).close()
    assert ids(tmp_path / "a.parquet") == ids(tmp_path / "no-groups.parquet") == []
    pq.write_table(pa.table({}), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: has no columns"):
        ids(tmp_path / "b.parquet")


def test_a_parquet_file_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, documents(0, 20))
    share = Corpus.open(path).share(1, 3)
    pq.write_table(pa.Table.from_pylist(documents(0, 20)), path)
    with pytest.raises(UserError, match=r"a\.parquet: its row groups changed"):
        list(share.batches())


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    for name in ("a.jsonl", "f.parquet"):
        path = tmp_path / name
        FORMATS[name](path, documents(0, 100))
        share = Corpus.open(path).share(0, 1)
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(UserError, match=name):
            list(share.batches())
