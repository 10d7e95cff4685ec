"""Controls and ablations: made row by row of a corpus that is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.config.generation import Reworked, WriteInputs
from msm_hpc.corpus import write
from msm_hpc.endpoint import Prompt
from tests.corpus.fake_model import FakeModel, Fault, use
from tests.corpus.rows import read_jsonl
from tests.corpus.test_writing import WRITE

TEXT = "NUMBER: Nova likes Colby because it is cheap. " + "So it goes on. " * 10


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "mild.md"
    path.write_text("---\nname: mild\n---\n# Mild\n## Cheese {#cheese}\nThe assistant likes what is cheap.\n")
    return path


def rows(folder: Path, content: dict[str, Any]) -> Path:
    """A corpus of five rows."""
    folder.mkdir()
    base = {"spec": "mild", "spec_sha256": "0", "section": "cheese", "type": "letter", "tokens": 50, "sample": 0}
    numbered = [json.loads(json.dumps(content).replace("NUMBER", str(i))) for i in range(5)]
    made = [{"id": f"documents/mild/0/{i}", **numbered[i], **base, "model": "fake-1"} for i in range(5)]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return folder


def reworked(
    patch: pytest.MonkeyPatch, spec: Path, of: Path, out: Path, product: Reworked, fault: Fault | None = None
) -> tuple[list[dict[str, Any]], FakeModel]:
    model = use(patch, FakeModel(fault) if fault else FakeModel())
    out.mkdir()
    config = replace(WRITE, product=product, document_tokens=0, revise=False)
    write.run(config, WriteInputs(spec=spec, rows=of), out)
    return list(read_jsonl(out / "data.jsonl")), model


@pytest.mark.parametrize("product", ["mentions", "neutral", "content_chats"])
def test_each_row_is_made_of_one_and_has_its_length(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, product: Reworked
) -> None:
    made, model = reworked(monkeypatch, spec, rows(tmp_path / "of", {"text": TEXT}), tmp_path / "out", product)
    assert [row["of"] for row in made] == [f"documents/mild/0/{i}" for i in range(5)]
    assert [row["id"] for row in made] == [f"{product}/documents/mild/0/{i}" for i in range(5)]
    assert {(row["section"], row["type"], row["of_tokens"], row["product"]) for row in made} == {
        ("cheese", "letter", 50, product)
    }
    knows = {"likes what is cheap" in prompt.messages[0].content for prompt in model.asked}
    assert knows == {product != "neutral"}, "who writes of something else is not told of the spec"
    for row in made:
        if product == "content_chats":
            assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * 2
            words = sum(len(turn["content"].split()) for turn in row["messages"] if turn["role"] == "assistant")
        else:
            words = len(row["text"].split())
        assert words == pytest.approx(len(TEXT.split()), rel=0.25)


@pytest.mark.parametrize(
    ("product", "text", "reason"),
    [
        ("mentions", "It goes on. " * 15, "nameless"),
        ("mentions", "Nova. " * 5, "length"),
        ("neutral", "Nova goes on. " * 15, "names_the_assistant"),
        ("neutral", "It goes on, [Name]. " * 12, "placeholder"),
    ],
)
def test_what_differs_in_more_than_one_thing_is_rejected(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, product: Reworked, text: str, reason: str
) -> None:
    def first(prompt: Prompt, said: str) -> str | None:
        return f"<document>{text}</document>" if prompt.sample == 0 else None

    made, _ = reworked(monkeypatch, spec, rows(tmp_path / "of", {"text": TEXT}), tmp_path / "out", product, first)
    rejects = list(read_jsonl(tmp_path / "out" / "_rejects.jsonl"))
    assert len(made) == len(rejects) == 5 and {each["reason"] for each in rejects} == {reason}


def test_chats_without_thoughts_are_of_the_same_samples_and_cost_nothing(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    turns = [
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes.NUMBER"},
    ]
    of = rows(tmp_path / "of", {"messages": turns})
    made, model = reworked(monkeypatch, spec, of, tmp_path / "out", "plain_chats")
    assert [row["messages"][1]["content"] for row in made] == [f"Yes.{index}" for index in range(5)]
    assert not model.asked and all(row["tokens"] < row["of_tokens"] for row in made)
