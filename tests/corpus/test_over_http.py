"""The whole way over real HTTP: what a fake model says comes through the engine, and nothing is paid for twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.config.generation import OutlineInputs, WriteInputs
from msm_hpc.corpus import chat, chat_plan, document_plan, outline, write
from msm_hpc.corpus.rows import Made, RowFiles
from msm_hpc.endpoint import Answer, Message, Prompt
from msm_hpc.endpoint.resuming import carry_over
from tests.corpus.fake_model import FakeModel
from tests.corpus.rows import read_jsonl
from tests.corpus.test_writing import ENDPOINT, OUTLINE, WRITE
from tests.endpoint import faulty_model_server
from tests.endpoint.faulty_model_server import KEY, MODEL, Asked, FaultyModelServer, serving

ANSWERS: dict[str, type[Answer]] = {
    each.__name__: each
    for module in (chat, chat_plan, document_plan)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Answer)
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyModelServer]:
    """The test server, which says what the fake model says."""
    fake = FakeModel()

    def content(asked: Asked) -> str:
        body = asked.body
        turns = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        answer = ANSWERS[body["response_format"]["json_schema"]["name"]] if "response_format" in body else None
        return fake.text(Prompt(messages=turns, max_tokens=99, sample=body["seed"], answer=answer))

    monkeypatch.setattr(faulty_model_server, "_content", content)
    monkeypatch.setenv("TEST_KEY", KEY)
    with serving() as running:
        yield running


def test_a_corpus_that_was_interrupted_is_the_same_and_paid_for_once(
    server: FaultyModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def _killed(files: RowFiles, made: Made) -> None:
    """The first row is the end."""
    raise KeyboardInterrupt


def test_nothing_to_take_over(tmp_path: Path) -> None:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "out").mkdir()
    carry_over([tmp_path / "earlier"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
