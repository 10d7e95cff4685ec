import hashlib
import json
import sys
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from tests.tokenization.reading.corpus_files import FORMATS, documents, ids, parquet, plain, rows_of, zst
from tokenization.reading.corpus import Corpus
from tokenization.reading.readers import BATCH_BYTES
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow


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
