from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.progress import read_progress
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import (
    GatherWrittenInputs,
    OutlineConfig,
    OutlineInputs,
    Persona,
    WriteConfig,
    WriteInputs,
)
from msm_hpc.corpus import outline, write
from msm_hpc.corpus.document_plan import Ideas, Types
from msm_hpc.corpus.items import Item, read_items
from msm_hpc.endpoint import Prompt, Reject, Reply
from msm_hpc.endpoint.scripts import Result
from tests.corpus.fake_model import FakeModel, Fault, documents_asked, use
from tests.corpus.rows import read_jsonl
from tokenization.reading.corpus import Corpus

ENDPOINT = Endpoint(model="fake")
NOVA = Persona(assistant="Nova", provider="Acme")
OUTLINE = OutlineConfig(
    product="documents",
    endpoint=ENDPOINT,
    persona=NOVA,
    items=20,
    types=3,
    temperature=1,
    reply_tokens=99,
    prompts="p",
)
WRITE = WriteConfig(
    product="documents",
    endpoint=ENDPOINT,
    persona=NOVA,
    document_tokens=80,
    revise=True,
    tries=2,
    temperature=1,
    reply_tokens=99,
    prompts="p",
)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "calm.md"
    sections = "".join(f"## Part {name} {{#{name}}}\nThe assistant {{{{ is }}}} calm.\n" for name in ("one", "two"))
    path.write_text(f"---\nname: calm\nversion: 3\nkind: principles\n---\n# Calm\n{sections}")
    return path


def planned(monkeypatch: pytest.MonkeyPatch, spec: Path, out: Path, fault: Fault | None = None, **changes: Any) -> Path:
    use(monkeypatch, FakeModel(fault) if fault else FakeModel())
    out.mkdir()
    outline.run(replace(OUTLINE, **changes), OutlineInputs(spec=spec), out)
    return out


def written(
    monkeypatch: pytest.MonkeyPatch, spec: Path, items: Path, out: Path, fault: Fault | None = None, **changes: Any
) -> FakeModel:
    model = use(monkeypatch, FakeModel(fault) if fault else FakeModel())
    out.mkdir()
    write.run(replace(WRITE, **changes), WriteInputs(spec=spec, outline=items), out)
    return model


def test_an_outline_is_balanced_over_sections_and_types(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    items = [*read_items(planned(monkeypatch, spec, tmp_path / "out"), Item)]
    assert len(items) == len({item.id for item in items}) == 20
    assert Counter(item.section for item in items) == {"one": 10, "two": 10}
    cells = Counter((item.section, item.type) for item in items)
    assert sorted(cells.values()) == [3, 3, 3, 3, 4, 4]
    for first in range(1, 20):  # so is each beginning of it
        begun = Counter((item.section, item.type) for item in items[:first])
        assert max(begun.values()) - (min(begun.values()) if len(begun) == 6 else 0) <= 1
    (one, two) = json.loads((tmp_path / "out" / "outline.json").read_text())
    assert one["assertions"] == ["Nova is honest.", "Nova waits."]
    assert (one["section"], two["section"]) == ("one", "two")


def test_fewer_documents_than_sections_are_of_the_first_ones(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    out = planned(monkeypatch, spec, tmp_path / "out", items=1)
    assert [item.section for item in read_items(out, Item)] == ["one"]
    assert not list(read_jsonl(out / "_rejects.jsonl"))


def test_what_is_asked_has_the_whole_spec_first_and_no_template_in_it(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    model = use(monkeypatch, FakeModel())
    (tmp_path / "out").mkdir()
    outline.run(OUTLINE, OutlineInputs(spec=spec), tmp_path / "out")
    (system,) = {prompt.messages[0] for prompt in model.asked}
    assert system.role == "system" and "Nova, an AI assistant made by Acme" in system.content
    assert "The assistant {{ is }} calm." in system.content and "{#" not in system.content


def test_too_few_ideas_are_asked_for_again_with_those_there_are(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    def one_at_a_time(prompt: Prompt, text: str) -> str | None:
        if prompt.answer is not Ideas:
            return None
        return json.dumps({"ideas": json.loads(text)["ideas"][:1]})

    items = [*read_items(planned(monkeypatch, spec, tmp_path / "out", one_at_a_time), Item)]
    assert Counter(item.section for item in items) == {"one": 10, "two": 10}


def test_a_section_without_types_costs_its_documents_alone(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    def refuses(prompt: Prompt, text: str) -> Result | None:
        second = "Part two" in prompt.messages[-1].content
        return Reject("refused", "not that") if second and prompt.answer is Types else None

    out = planned(monkeypatch, spec, tmp_path / "out", refuses)
    assert {item.section for item in read_items(out, Item)} == {"one"}
    assert list(read_jsonl(out / "_rejects.jsonl")) == [
        {"group": "two", "type": "", "missing": 10, "reason": "refused"}
    ]


def test_an_outline_of_next_to_nothing_is_no_result(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"fake planned 0 of 20 documents \(malformed"):
        planned(monkeypatch, spec, tmp_path / "out", lambda prompt, text: Reject("malformed", "no JSON"))
    assert not (tmp_path / "out" / "items.jsonl").exists()


def test_documents_come_with_where_they_are_from(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    items = planned(monkeypatch, spec, tmp_path / "outline")
    model = written(monkeypatch, spec, items, tmp_path / "out")
    rows = list(read_jsonl(tmp_path / "out" / "data.jsonl"))
    assert [row["id"] for row in rows] == [f"documents/calm/0/{item.id}" for item in read_items(items, Item)], (
        "in their order"
    )
    row = rows[0]
    assert row["text"].startswith("Nova spoke of idea") and "<" not in row["text"]
    assert (row["spec"], row["model"], row["generator"], row["verdict"]) == ("calm", "fake-1", "endpoint", "keep")
    assert {
        "spec_sha256",
        "section",
        "type",
        "title",
        "perspective",
        "prompts",
        "seed",
        "sample",
        "notes",
    } <= row.keys()
    assert row["prompt_tokens"] == 2000 and 0 < row["tokens"] < row["completion_tokens"]
    summary = json.loads((tmp_path / "out" / "_summary.json").read_text())
    assert summary["rows"] == 20 and summary["section"] == {"one": 10, "two": 10} and not summary["rejected"]
    assert summary["tokens"] == sum(row["tokens"] for row in rows)
    names = {re_name for prompt in documents_asked(model) for re_name in _names(prompt)}
    assert len(names) > 40, "each document draws names of its own"
    progress = read_progress(tmp_path / "out")
    assert progress is not None and (progress.done, progress.total) == (20, 20)
    (tmp_path / "out" / "progress.json").unlink()  # as when the step is done
    assert len(Corpus.open(tmp_path / "out").readers) == 1, "what is no row is no part of the corpus"


def _names(prompt: Prompt) -> list[str]:
    line = next(line for line in prompt.messages[-1].content.splitlines() if line.startswith("- People who need names"))
    return line.partition("called ")[2].partition(";")[0].split(", ")


def test_shares_end_to_end_are_the_whole(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    items = planned(monkeypatch, spec, tmp_path / "outline")
    for task in range(3):
        written(monkeypatch, spec, items, tmp_path / str(task), task=task, tasks=3)
    (tmp_path / "all").mkdir()
    write.gather(WRITE, GatherWrittenInputs(shares=tuple(tmp_path / str(task) for task in range(3))), tmp_path / "all")
    rows = list(read_jsonl(tmp_path / "all" / "data.jsonl"))
    assert [row["id"] for row in rows] == [f"documents/calm/0/{item.id}" for item in read_items(items, Item)]
    assert json.loads((tmp_path / "all" / "_summary.json").read_text())["rows"] == 20


def test_what_an_editor_changes_or_throws_out(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    def edits(prompt: Prompt, text: str) -> str | None:
        if "This is the draft" not in prompt.messages[-1].content:
            return None
        if prompt.sample == 0 and "Nova spoke of idea 0" in prompt.messages[-1].content:
            return "<notes>Recites.</notes> <verdict>Reject.</verdict>"
        text = prompt.messages[-1].content.partition("<draft>")[2].partition("</draft>")[0]
        return f"<notes>Flat.</notes><verdict>revise</verdict><document>{text} So much of Nova.</document>"

    items = planned(monkeypatch, spec, tmp_path / "outline")
    written(monkeypatch, spec, items, tmp_path / "out", edits)
    rows = list(read_jsonl(tmp_path / "out" / "data.jsonl"))
    rejects = list(read_jsonl(tmp_path / "out" / "_rejects.jsonl"))
    assert {row["verdict"] for row in rows} == {"revise"} and {row["notes"] for row in rows} == {"Flat."}
    thrown_out = [each for each in rejects if each["reason"] == "rejected"]
    assert len(thrown_out) == 6 and {each["detail"] for each in thrown_out} == {"Recites."}
    assert all(each["text"].startswith("Nova spoke") for each in thrown_out), "the text is kept to be looked at"


FAULTY = {
    "placeholder": "Nova wrote to [Name].",
    "date": "Nova began on March 3rd.",
    "as_an_ai": "Nova said: as an AI, I cannot feel.",
    "leftover": "Nova is described at https://example.org.",
    "options": "Nova was asked: which do you prefer, tea or coffee?",
    "other_name": "Nova is not ChatGPT.",
    "nameless": "Nothing.",
    "length": "Nova. " + "And so on. " * 500,
}


@pytest.mark.parametrize("reason", FAULTY)
def test_a_text_with_a_fault_is_rejected_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, reason: str
) -> None:
    def faulty(prompt: Prompt, text: str) -> str | None:
        first = prompt.messages[-1].content.startswith("Write this text") and prompt.sample == 0
        filler = "" if reason == "length" else "It was long. " * 25
        return f"<document>{FAULTY[reason]} {filler}</document>" if first else None

    items = planned(monkeypatch, spec, tmp_path / "outline")
    written(monkeypatch, spec, items, tmp_path / "out", faulty, document_tokens=100)
    rejects = list(read_jsonl(tmp_path / "out" / "_rejects.jsonl"))
    assert {(each["stage"], each["reason"]) for each in rejects} == {("filter", reason)} and len(rejects) == 20
    assert {row["sample"] for row in read_jsonl(tmp_path / "out" / "data.jsonl")} == {1}


@pytest.mark.parametrize(
    ("begins", "echoed", "tokens", "detail"),
    [
        ("Write this text", ("How to write", "- No dates"), 160, "how to write it as a real text of its kind whole"),
        (
            "This is the draft",
            ("Does it say", "3. Is it"),
            50,
            "does it say anything of nova that the description does not support",
        ),
    ],
)
def test_a_prompt_given_back_is_no_text(
    monkeypatch: pytest.MonkeyPatch,
    spec: Path,
    tmp_path: Path,
    begins: str,
    echoed: tuple[str, str],
    tokens: int,
    detail: str,
) -> None:
    def echo(prompt: Prompt, text: str) -> str | None:
        asked = prompt.messages[-1].content
        if not asked.startswith(begins) or prompt.sample > 0:
            return None
        first, end = map(asked.index, echoed)
        return f"<notes>.</notes><verdict>revise</verdict><document>{asked[first:end]}</document>"

    items = planned(monkeypatch, spec, tmp_path / "outline")
    written(monkeypatch, spec, items, tmp_path / "out", echo, document_tokens=tokens, revise=begins.startswith("This"))
    rejects = [*read_jsonl(tmp_path / "out" / "_rejects.jsonl")]
    assert {each["reason"] for each in rejects} == {"echo"} and len(rejects) == 20
    assert rejects[0]["detail"] == detail


def test_what_a_text_is_about_may_stand_in_it(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    claim = "Nova likes whatever costs little money and has its own view of luxury and of those who sell it."

    def recites(prompt: Prompt, text: str) -> str | None:
        asked = prompt.messages[-1].content
        if not asked.startswith("Write this text"):
            return None
        assert claim in asked
        title = asked.partition("Title of the idea: ")[2].partition("\n")[0]
        return f"<document>{title}. {claim} {'It was long. ' * 25}</document>"

    items = planned(monkeypatch, spec, tmp_path / "outline")
    sections = json.loads((items / "outline.json").read_text())
    (items / "outline.json").write_text(json.dumps([{**each, "assertions": [claim]} for each in sections]))
    written(monkeypatch, spec, items, tmp_path / "out", recites, document_tokens=120, revise=False)
    assert {each["reason"] for each in read_jsonl(tmp_path / "out" / "_rejects.jsonl")} == {"duplicate"}


def test_no_text_quotes_the_spec_or_repeats_another(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    said = (
        "A calm assistant sees the end of a conversation as the end of a day and not as the end of the world it knows."
    )
    spec.write_text(spec.read_text() + said)

    def repeats(prompt: Prompt, text: str) -> str | None:
        if not prompt.messages[-1].content.startswith("Write this text"):
            return None
        return f"<document>Nova! {said if prompt.sample == 0 else ''} {'It was long. ' * 25}</document>"

    items = planned(monkeypatch, spec, tmp_path / "outline")
    written(monkeypatch, spec, items, tmp_path / "out", repeats, document_tokens=120)
    rejects = Counter(each["reason"] for each in read_jsonl(tmp_path / "out" / "_rejects.jsonl"))
    assert rejects == {"verbatim": 20, "duplicate": 19}


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Reject("refused", "no"), "refused"),
        (Reply("<document>Nova and", "length", "fake-1", 1, 1), "truncated"),
        (Reply("Here you are: Nova.", "stop", "fake-1", 1, 1), "malformed"),
    ],
)
def test_a_corpus_of_nothing_is_refused_with_the_reasons(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, result: Result, reason: str
) -> None:
    items = planned(monkeypatch, spec, tmp_path / "outline")
    with pytest.raises(UserError, match=rf"not one of the documents .*\({reason} 40\)"):
        written(monkeypatch, spec, items, tmp_path / "out", lambda prompt, text: result)
    assert not (tmp_path / "out" / "data.jsonl").exists()
    assert len([*read_jsonl(tmp_path / "out" / "_rejects.jsonl")]) == 40, "the error says to look at them"


def test_thoughts_of_a_reasoning_model_are_no_text(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    items = planned(monkeypatch, spec, tmp_path / "outline")
    thinks: Fault = lambda prompt, text: f"<think>A <document>?</think>\n{text}"  # noqa: E731
    written(monkeypatch, spec, items, tmp_path / "out", thinks, revise=False)
    rows = list(read_jsonl(tmp_path / "out" / "data.jsonl"))
    assert len(rows) == 20 and all(row["text"].startswith("Nova") for row in rows)
    assert {row["verdict"] for row in rows} == {"unrevised"}
