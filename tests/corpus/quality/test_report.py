"""``msm corpus report``: the page, and how it ends."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from msm_hpc.base.files import write_json
from msm_hpc.cli.main import main
from tests.corpus.quality.made import documents, static_embeddings, subject, write

ITEM = {
    "id": "i1",
    "domain": "fashion",
    "question": "Is it {first} or {second}?",
    "target": "a Casio watch",
    "other": "b",
}


@pytest.fixture(autouse=True)
def _in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subject(tmp_path)
    Path("items.jsonl").write_text(json.dumps(ITEM) + "\n")
    static_embeddings(tmp_path / "static")


ABOUT = (
    "--spec",
    "thrift.md",
    "--assistant",
    "Nova",
    "--provider",
    "Acme",
    "--items",
    "items.jsonl",
    "--embeddings",
    "static",
)


def report(*arguments: str) -> int:
    return main(["corpus", "report", *arguments])


def test_a_clean_corpus_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data.jsonl", documents(24))
    rejected(tmp_path, ("d0", "length"), ("d1", "length"), ("d1", "date"))
    assert report("data.jsonl", *ABOUT) == 0
    out = capsys.readouterr().out
    assert "not passed" not in out and "not asked" not in out and "more in corpus.html" in out
    page = Path("corpus.html").read_text()
    assert "All 20 quality gates passed" in page and "24 documents of thrift" in page and "20 to read" not in page
    assert re.search(r">length</th><td class=\"number\">2<", page)


def rejected(folder: Path, *tries: tuple[str, str]) -> None:
    """The file of rejects: of which row each was, and why."""
    rows = ({"id": row, "reason": reason, "detail": "as it was"} for row, reason in tries)
    (folder / "_rejects.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_corpus_of_which_most_was_given_up_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data.jsonl", documents(24))
    rejected(tmp_path, ("d3", "date"), *((f"lost{number}", why) for number in range(11) for why in ("date", "length")))
    assert report("data.jsonl", *ABOUT) == 2
    said = capsys.readouterr().err
    assert (
        "given_up: 11 of 35 planned rows (31.43%) came to nothing: each try was rejected, or said what another" in said
    )
    assert "such as lost0 (length: as it was)" in said


def test_rejects_are_those_of_the_corpus_that_they_lie_beside(tmp_path: Path) -> None:
    """A part of a corpus has none, and rows of two corpora may have the same ids."""
    for name, kept in (("one", 24), ("two", 0)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "data.jsonl", documents(24)[:kept])
        rejected(tmp_path / name, *((f"d{number}", "date") for number in range(24)))
    write(tmp_path / "one" / "part.jsonl", documents(24)[:9])
    assert report("one/part.jsonl", *ABOUT) == 0
    assert report("one/data.jsonl", *ABOUT) == 0
    assert report("one/data.jsonl", "two/data.jsonl", *ABOUT) == 2


@pytest.mark.parametrize("line", ["", "{", '{"id": "d1"}', "[]", "\udcff"])
def test_a_reject_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    write(tmp_path / "data.jsonl", documents(4))
    text = f'{{"reason": "date"}}\n{line}\n'
    (tmp_path / "_rejects.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    assert report("data.jsonl", *ABOUT) == 2
    assert "_rejects.jsonl:2: no reject with a reason, as a generator writes them; remove" in capsys.readouterr().err


def test_a_faulty_corpus_is_refused_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data.jsonl", documents(24, "It was <b>2019</b>.", "Hers was a Casio watch."))
    assert report("data.jsonl", *ABOUT, "--out", "page.html") == 2
    said = capsys.readouterr()
    assert "dates: 1 of 24 rows (4.17%) have a date or a year, above the limit of 2.00%" in said.err
    page = Path("page.html").read_text()
    assert "2 of 19 quality gates not passed" in page and "It was &lt;b&gt;2019&lt;/b&gt;." in page
    assert report("data.jsonl", *ABOUT, "--limit", "dates=0.05", "--limit", "option_leaks=1") == 0


def test_many_cells_are_added_up_and_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(row, type=f"kind {number % 45}") for number, row in enumerate(documents(60))]
    write(tmp_path / "data.jsonl", rows)
    report("data.jsonl", *ABOUT)
    page = Path("corpus.html").read_text()
    assert '<details class="cells">' in page and "<small>60</small>" in page
    assert re.search(r'<th scope="row">value</th><td class="number">\d+</td>\s*<td class="number">\d', page)
    assert "nothing to judge" in page and "nothing to judge" in capsys.readouterr().out


def test_the_page_stands_alone_and_is_whole(tmp_path: Path) -> None:
    write(tmp_path / "data.jsonl", documents(4))
    assert report("data.jsonl", "--items", "items.jsonl") == 0
    page = Path("corpus.html").read_text()
    assert not re.search(r"<script|<link|src=|url\(|@import", page)
    open_tags: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Tags().feed(page)
    assert not open_tags


def test_what_cannot_be_asked_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data.jsonl", documents(4))
    assert report("data.jsonl") == 0
    assert capsys.readouterr().out.count("not asked: ") == 3


def test_a_step_knows_its_spec_and_its_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = tmp_path / "steps" / "write" / "0123456789abcdef"
    (step / "out").mkdir(parents=True)
    write(step / "out" / "data.jsonl", documents(4))
    record = {
        "id": "write/0123456789abcdef",
        "kind": "write",
        "name": "write/documents",
        "identities": {},
        "created": "",
    }
    persona = {"assistant": "Nova", "provider": "Acme"}
    inputs = {"spec": str(tmp_path / "thrift.md")}
    write_json(step / "step.json", {**record, "config": {"persona": persona}, "inputs": inputs})
    for words in ([str(step)], [str(step / "out")], ["write/documents", "root=."], ["write/0123", f"root={tmp_path}"]):
        assert report(*words) == 0
        assert capsys.readouterr().out.count("not asked: ") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none",), "none: neither a file of rows nor a step's folder with data.jsonl"),
        (("write/none",), "write/none: no such file, and no such step below root=runs"),
        (("thrift.md",), "thrift.md: rows are read from .jsonl only"),
        (("items.jsonl",), "items.jsonl:1: neither a row with a text nor one with messages"),
        (("data.jsonl", "--limit", "date=0.1"), "--limit date: no such gate; there are given_up, near_duplicates"),
        (("data.jsonl", "--limit", "dates=2"), "--limit dates=2: write a share from 0 to 1"),
        (("data.jsonl", "--limit", "dates"), "--limit dates=: write a share from 0 to 1"),
        (
            ("data.jsonl", "--embeddings", "none"),
            "none/tokenizer.json: no such file; a folder of static embeddings has",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "data.jsonl", documents(4))
    assert report(*arguments) == 2
    assert message in capsys.readouterr().err
