"""The whole way over real HTTP: what a fake model says comes through the engine, and nothing is paid for twice."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from traceback import format_exception

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import OutlineInputs, WriteInputs
from msm_hpc.config.serving import Serving
from msm_hpc.corpus import outline, write
from msm_hpc.corpus.rows import Made, RowFiles
from msm_hpc.endpoint.resuming import carry_over
from msm_hpc.serving import kept
from tests.corpus.fake_model_server import content
from tests.corpus.rows import read_jsonl
from tests.corpus.test_writing import ENDPOINT, OUTLINE, WRITE
from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import KEY, MODEL, Asked, FaultyModelServer, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyModelServer]:
    """The test server, which says what the fake model says."""
    monkeypatch.setattr(faulty_model_server, "_content", content)
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving() as running:
        yield running


def test_a_corpus_that_was_interrupted_is_the_same_and_paid_for_once(
    server: FaultyModelServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """And the key, which each request has, is in no file and no log."""
    caplog.set_level(logging.DEBUG)
    spec = tmp_path / "calm.md"
    spec.write_text("---\nname: calm\n---\n# Calm\n## One {#one}\nThe assistant is calm.\n")
    endpoint = replace(ENDPOINT, model=MODEL, base_url=server.url, key_variable="TEST_KEY", in_flight=3)
    config = replace(WRITE, endpoint=endpoint)
    planned, whole, first, second = (tmp_path / name for name in ("outline", "whole", "first", "second"))
    for folder in (planned, whole, first, second):
        folder.mkdir()
    outline.run(replace(OUTLINE, endpoint=endpoint), OutlineInputs(spec=spec), planned)
    inputs = WriteInputs(spec=spec, outline=planned)
    write.run(config, inputs, whole)
    rows = list(read_jsonl(whole / "data.jsonl"))
    assert len(rows) == 20 and {row["model"] for row in rows} == {MODEL}

    before = server.paid.total()
    with monkeypatch.context() as patch:
        patch.setattr(RowFiles, "add", _killed)
        with pytest.raises(KeyboardInterrupt):
            write.run(config, inputs, first)
    assert 0 < server.paid.total() - before < 40 and not (first / "data.jsonl").exists()
    carry_over([first], second)
    write.run(config, inputs, second)
    paid = server.paid.total() - before
    assert 40 <= paid <= 40 + endpoint.in_flight, "a draft and a revision of each, and what was in flight"
    assert (second / "data.jsonl").read_bytes() == (whole / "data.jsonl").read_bytes()

    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert caplog.records and {file.name for file in files} >= {"data.jsonl", "outline.json", "_summary.json"}
    for said in (caplog.text, *capfd.readouterr(), *(file.read_bytes().decode("latin-1") for file in files)):
        assert KEY not in said


def test_a_key_that_is_refused_is_not_in_what_is_said_of_it(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEST_KEY", wrong := "a-wrong-key-0123456789")
    caplog.set_level(logging.DEBUG)
    spec, out = tmp_path / "calm.md", tmp_path / "outline"
    spec.write_text("---\nname: calm\n---\n# Calm\n## One {#one}\nThe assistant is calm.\n")
    out.mkdir()
    endpoint = replace(ENDPOINT, model=MODEL, base_url=server.url, key_variable="TEST_KEY")
    with pytest.raises(UserError, match="TEST_KEY") as refused:
        outline.run(replace(OUTLINE, endpoint=endpoint), OutlineInputs(spec=spec), out)
    written = "".join(file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file())
    traceback = "".join(format_exception(refused.value))
    assert wrong not in traceback + caplog.text + written


def test_a_text_that_comes_again_and_again_is_one_row(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server answers from a cache of its own: each is paid for, one is kept, the others are counted."""

    def same(asked: Asked) -> str:
        said = content(asked)
        return f"<document>Nova waits. {'It was long. ' * 19}</document>" if said.startswith("<document>") else said

    spec, planned, written = (tmp_path / name for name in ("calm.md", "outline", "written"))
    spec.write_text("---\nname: calm\n---\n# Calm\n## One {#one}\nThe assistant is calm.\n")
    endpoint = replace(ENDPOINT, model=MODEL, base_url=server.url, key_variable="TEST_KEY")
    for folder in (planned, written):
        folder.mkdir()
    outline.run(replace(OUTLINE, endpoint=endpoint), OutlineInputs(spec=spec), planned)
    monkeypatch.setattr(faulty_model_server, "_content", same)
    write.run(replace(WRITE, endpoint=endpoint), WriteInputs(spec=spec, outline=planned), written)
    summary = json.loads((written / "_summary.json").read_text())
    assert (summary["rows"], summary["rejected"]) == (1, {"duplicate": 19})
    assert len(list(read_jsonl(written / "_rejects.jsonl"))) == 19


def test_a_task_writes_with_a_server_that_it_starts(tmp_path: Path) -> None:
    """Rows are under the name that the configuration has for the model, and not that of the job's server."""
    spec, weights, planned, written = (tmp_path / name for name in ("calm.md", "weights", "outline", "written"))
    spec.write_text("---\nname: calm\n---\n# Calm\n## One {#one}\nThe assistant is calm.\n")
    for folder in (weights, planned, written):
        folder.mkdir()
    (weights / "config.json").write_text("{}")
    command = f"{sys.executable} -m tests.corpus.fake_model_server {{model}} {{port}} {{name}}"
    serving = Serving(server="command", command=command)
    with kept():
        outline.run(replace(OUTLINE, serving=serving), OutlineInputs(spec=spec, model=weights), planned)
        write.run(replace(WRITE, serving=serving), WriteInputs(spec=spec, outline=planned, model=weights), written)
    rows = list(read_jsonl(written / "data.jsonl"))
    assert len(rows) == 20
    assert json.loads((written / "_summary.json").read_text())["model"] == ENDPOINT.model


def _killed(files: RowFiles, made: Made) -> None:
    """The first row is the end."""
    raise KeyboardInterrupt


def test_nothing_to_take_over(tmp_path: Path) -> None:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "out").mkdir()
    carry_over([tmp_path / "earlier"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
