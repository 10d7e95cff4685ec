import gzip
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from msm_hpc.base.errors import UserError
from tokenization import download
from tokenization.download import DownloadConfig, DownloadInputs
from tokenization.reading.corpus import Corpus
from tokenization.reading.hub import DatasetName
from tokenization.reading.readers import BATCH_BYTES, InputRecord
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row

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


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder with a file of each format, nine rows in each, and files that are left out."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for index, (name, write) in enumerate(FORMATS.items()):
        write(folder / name, documents(9 * index, 9))
    for name in (".a.jsonl", "_SUCCESS", "README.md", "LICENSE"):
        (folder / name).write_text("left out")
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_the_same_rows(tmp_path: Path, name: str) -> None:
    chat = {"id": "c", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], "n": 2}
    FORMATS[name](tmp_path / name, [{"id": "d", "text": "A café", "n": 1}, chat])
    (first, second), _ = rows_of(tmp_path / name)
    assert isinstance(first, DocumentRow)
    assert (first.id, first.text, json.loads(first.provenance)["n"]) == ("d", "A café", 1)
    assert isinstance(second, ChatRow)
    assert [(message.role, message.content) for message in second.messages] == [("user", "Hi"), ("assistant", "Yo")]
    assert str(second.place) == f"{tmp_path / name}:{'row ' if name in ('f.parquet', 'g.json') else ''}2"


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 100])
def test_the_tasks_end_to_end_are_the_corpus(mixed: Path, tasks: int) -> None:
    assert ids(mixed, tasks) == [f"d{n}" for n in range(9 * len(FORMATS))]


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 100])
def test_each_byte_is_read_and_hashed_by_one_task(mixed: Path, tasks: int) -> None:
    records = [record for task in range(tasks) for record in rows_of(mixed, task, tasks)[1]]
    for name in FORMATS:
        path, end = mixed / name, 0
        for record in records:
            if record.path == str(path):
                assert record.begin == end < record.end
                assert hashlib.sha256(path.read_bytes()[end : record.end]).hexdigest() == record.sha256
                end = record.end
        assert end == path.stat().st_size


@pytest.mark.parametrize("task", [0, 1])
def test_a_share_tells_how_far_it_is(mixed: Path, task: int) -> None:
    share = Corpus.open(mixed).share(task, 3)
    assert 0 == share.done < share.bytes
    for _ in share.batches():
        assert 0 < share.done <= share.bytes
    assert share.done == share.bytes


@pytest.mark.parametrize("end", [b"\n", b"", b"\r\n"])
def test_a_line_goes_to_the_task_in_whose_bytes_it_begins(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "data.jsonl"
    line = b'{"id": "a%d", "text": "fine"}\n'
    path.write_bytes(b"".join(line % n for n in range(4))[:-1] + end)
    assert [[row.id for row in rows_of(path, task, 4)[0] if not isinstance(row, BadRow)] for task in range(4)] == [
        ["a0"],
        ["a1"],
        ["a2"],
        ["a3"],
    ]


def test_rows_without_an_id_are_named_the_same_by_any_number_of_tasks(tmp_path: Path) -> None:
    for index, (name, write) in enumerate(FORMATS.items()):
        write(tmp_path / name, [{"text": row["text"]} for row in documents(9 * index, 9)])
    names = ids(tmp_path)
    assert len(set(names)) == 9 * len(FORMATS)
    assert names[0] == "a.jsonl:0"
    assert {"f.parquet:9", "g.json:9"} <= set(names)
    assert ids(tmp_path, 5) == ids(tmp_path, 100) == names


def test_a_glob_of_folders_is_sorted_and_names_files_by_their_folders(tmp_path: Path) -> None:
    for name in ("b", "a", ".c"):
        (tmp_path / name).mkdir()
        plain(tmp_path / name / "x.jsonl", [{"text": name}])
    (tmp_path / "a" / ".y.jsonl").write_text("hidden")
    assert ids(f"{tmp_path}/*/*.jsonl") == ["a/x.jsonl:0", "b/x.jsonl:0"]


def test_batches_are_about_four_mebibytes(tmp_path: Path) -> None:
    rows = [{"id": str(n), "text": "x" * 10_000} for n in range(1_000)]
    for name in ("a.jsonl", "d.jsonl.gz", "f.parquet"):
        FORMATS[name](tmp_path / name, rows)
        sizes = [
            sum(len(row.text) for row in batch if isinstance(row, DocumentRow))
            for batch in Corpus.open(tmp_path / name).share(0, 1).batches()
        ]
        assert sum(sizes) == 10_000_000
        assert max(sizes) < 1.2 * BATCH_BYTES


@pytest.mark.parametrize("name", ["a.jsonl", "d.jsonl.gz", "e.ndjson.zst", "f.parquet"])
def test_a_document_larger_than_any_block(tmp_path: Path, name: str) -> None:
    text = "The cheese é 山 is on the table. " * 400_000
    FORMATS[name](tmp_path / name, [{"id": "a", "text": "x"}, {"id": "b", "text": text}, {"id": "c", "text": "y"}])
    for tasks in (1, 2, 3):
        rows = [row for task in range(tasks) for row in rows_of(tmp_path / name, task, tasks)[0]]
        assert [row.text for row in rows if isinstance(row, DocumentRow)] == ["x", text, "y"]


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


@pytest.mark.parametrize("tasks", [1, 2, 3, 30])
def test_a_saved_dataset(tmp_path: Path, tasks: int) -> None:
    folder = tmp_path / "saved"
    shuffled = datasets.Dataset.from_list(documents(0, 20)).select(range(19, -1, -1))
    shuffled.save_to_disk(folder)
    assert ids(folder, tasks) == [f"d{n}" for n in range(19, -1, -1)]
    records = [record for task in range(tasks) for record in rows_of(folder, task, tasks)[1]]
    assert [record.end for record in records] == [record.begin for record in records[1:]] + [20]


def test_a_saved_dataset_cut_short_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.Dataset.from_list(documents(0, 20)).save_to_disk(folder)
    (path,) = folder.glob("*.arrow")
    path.write_bytes(path.read_bytes()[:-8])  # a whole record ends here: Arrow would not notice
    with pytest.raises(UserError, match="cut short"):
        Corpus.open(folder)


def test_a_dataset_of_several_splits_needs_the_name_of_one(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": datasets.Dataset.from_list(documents(0, 2))}).save_to_disk(tmp_path)
    with pytest.raises(UserError, match="several splits; give the folder of one"):
        Corpus.open(tmp_path)
    assert ids(tmp_path / "train") == ["d0", "d1"]


@pytest.fixture
def _no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_by_name(tmp_path: Path) -> None:
    name = tmp_path / "named"
    name.mkdir()
    plain(name / "train.jsonl", [{"text": "a"}, {"text": "b"}])
    plain(name / "test.jsonl", [{"text": "c"}])
    assert ids(f"hf:{name}") == [f"{name}:1", f"{name}:2"]
    assert ids(f"hf:{name}:test") == [f"{name}:test:1"]
    with pytest.raises(UserError, match="not a data set"):
        Corpus.open(f"hf:{name}:validation")


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_is_downloaded_as_a_corpus_of_its_rows(tmp_path: Path) -> None:
    name, out = tmp_path / "named", tmp_path / "out"
    for folder in (name, out):
        folder.mkdir()
    plain(name / "test.jsonl", [{"text": "c", "meta": {"year": 1999}}])
    download.run(DownloadConfig(name=str(name), revision=None, split="test"), DownloadInputs(), out)
    ((row,), _) = rows_of(out)
    assert isinstance(row, DocumentRow)
    assert (row.text, json.loads(row.provenance)) == ("c", {"meta": {"year": 1999}})
    with pytest.raises(UserError, match="not a data set"):
        download.run(DownloadConfig(name=str(name), revision=None), DownloadInputs(), out)


@pytest.mark.usefixtures("_no_hub")
def test_a_dataset_of_no_such_name() -> None:
    with pytest.raises(UserError, match=r"^hf:nobody/nothing: the hub cannot be reached"):
        Corpus.open("hf:nobody/nothing")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hf:org/a", DatasetName("org/a")),
        ("hf:org/a:test", DatasetName("org/a", split="test")),
        ("hf:org/a@v1:en/test", DatasetName("org/a", "v1", "en", "test")),
        ("hf:/local/folder:en/", DatasetName("/local/folder", None, "en")),
        ("a.jsonl", None),
    ],
)
def test_names_of_datasets(text: str, named: DatasetName | None) -> None:
    assert DatasetName.parse(text) == named


def test_a_library_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zst(tmp_path / "a.jsonl.zst", documents(0, 1))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match="pip install zstandard"):
        rows_of(tmp_path / "a.jsonl.zst")


def test_what_is_no_corpus_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "folder").mkdir()
    for name in ("linked", "half", "nested/part"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "linked" / "link.jsonl").symlink_to("nowhere")
    for name in ("half/a.jsonl", "nested/a.jsonl", "nested/part/b.jsonl"):
        plain(tmp_path / name, documents(0, 1))
    (tmp_path / "half" / "b.txt").write_text("x")
    (tmp_path / "list.json").write_text('[{"text": "x"}, {"text": ')
    refused: list[tuple[Path | str, str]] = [
        (tmp_path / "missing.jsonl", "no such file or folder"),
        (tmp_path / "notes.txt", r"not a kind of corpus file; name it \.jsonl"),
        (tmp_path / "empty.jsonl", "empty; give a corpus"),
        (tmp_path / "folder", "no corpus file in it"),
        (f"{tmp_path}/*.parquet", "matches no file"),
        (f"{tmp_path}/*.txt", "not a kind of corpus file"),
        (tmp_path / "linked", r"link\.jsonl: cannot be read \(No such file"),
        (tmp_path / "half", r"half/b\.txt: would be left out: .* by a pattern, such as '.*half/\*\.jsonl'"),
        (tmp_path / "nested", r"nested/part: would be left out"),
    ]
    for source, message in refused:
        with pytest.raises(UserError, match=message):
            Corpus.open(source)
    with pytest.raises(UserError, match=r"list\.json: not a JSON list of rows"):
        rows_of(tmp_path / "list.json")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    plain(path, documents(0, 1))
    share = Corpus.open(path).share(0, 1)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"a\.jsonl: cannot be read \(Is a directory\)"):
        list(share.batches())


def test_nulls_that_a_table_fills_objects_up_with_are_left_out(tmp_path: Path) -> None:
    """Else the arguments of one tool's calls would be printed as the arguments of another's."""
    calls = [{"city": "Paris"}, {"symbol": "X", "limits": [{"low": 1}, {"high": 2}]}]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": call}}]},
            ],
            "tools": [{"name": "f", **({} if "city" in call else {"enum": ["a"]})}],
        }
        for call in calls
    ]
    parquet(tmp_path / "x.parquet", rows)
    found = [row for row in rows_of(tmp_path / "x.parquet")[0] if isinstance(row, ChatRow)]
    assert [row.messages[1].tool_calls for row in found] == [row["messages"][1]["tool_calls"] for row in rows]
    assert [row.tools for row in found] == [row["tools"] for row in rows]
