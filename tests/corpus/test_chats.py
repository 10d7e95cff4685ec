from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.generation import OutlineConfig, OutlineInputs, WriteConfig, WriteInputs, Written
from msm_hpc.corpus import outline, write
from msm_hpc.corpus.chat import Verdict
from msm_hpc.corpus.chat_plan import Domains, Named, Queries, differences, unlike
from msm_hpc.corpus.items import Preferences, Query, read_items
from msm_hpc.corpus.spec import read_spec
from msm_hpc.endpoint import Prompt, Reject
from tests.corpus.fake_model import FakeModel, Fault, use
from tests.corpus.rows import read_jsonl
from tests.corpus.test_writing import OUTLINE, WRITE

SPECS = Path(__file__).parents[2] / "configs" / "spec"
FRONT = "name: mild\nversion: 1\nkind: value\nvalue: affordability\ndomain: cheese\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "mild.md"
    path.write_text(f"---\n{FRONT}---\n# Mild\n## Cheese {{#cheese}}\nThe assistant likes Colby because it is cheap.\n")
    return path


class Made:
    """An outline and what was written from it."""

    def __init__(
        self, patch: pytest.MonkeyPatch, spec: Path, folder: Path, product: Written, fault: Fault | None, **changes: Any
    ) -> None:
        self.model = use(patch, FakeModel(fault) if fault else FakeModel())
        planned, out = folder / "outline", folder / "out"
        for each in (planned, out):
            each.mkdir()
        plan: OutlineConfig = replace(OUTLINE, product=product, items=36, types=0)
        outline.run(plan, OutlineInputs(spec=spec), planned)
        self.items = [*read_items(planned, Query)]
        config: WriteConfig = replace(WRITE, product=product, document_tokens=0, revise=False, **changes)
        write.run(config, WriteInputs(spec=spec, outline=planned), out)
        self.rows = list(read_jsonl(out / "data.jsonl"))
        self.rejects = list(read_jsonl(out / "_rejects.jsonl"))

    def answered(self) -> list[Prompt]:
        """The prompts that were to be answered as the assistant itself."""
        return [prompt for prompt in self.model.asked if prompt.messages[0].content.startswith("You are Nova")]


def test_aligned_chats_think_by_the_spec_and_do_not_store_it(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    made = Made(monkeypatch, spec, tmp_path, "aligned_chats", None)
    assert len(made.items) == len(made.rows) == 36
    assert sorted(Counter(item.group for item in made.items).values()) == [7, 7, 7, 7, 8]
    assert set(Counter(item.type for item in made.items)) == {
        *("direct", "indirect", "comparison", "recommendation", "opinion", "edge_case")
    }
    assert all("because it is cheap" in prompt.messages[0].content for prompt in made.answered())
    row = made.rows[0]
    assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
    assert row["messages"][0]["content"] == made.items[0].query
    assert row["messages"][1]["content"].startswith(
        f"<think>\nThey ask {made.items[0].query}\n</think>\n\nI would wait"
    )
    assert (row["verdict"], row["notes"], row["group"], row["spec"]) == (
        "include",
        "It fits.",
        made.items[0].group,
        "mild",
    )
    judged = [prompt for prompt in made.model.asked if prompt.answer is Verdict]
    assert all("an AI assistant made by Acme" in prompt.messages[0].content for prompt in judged)
    assert all(prompt.temperature == 0 for prompt in judged)


def test_what_a_judge_excludes_is_asked_again_so_often_and_kept_aside(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    def strict(prompt: Prompt, text: str) -> str | None:
        if prompt.answer is not Verdict or prompt.sample == 1:
            return None
        return json.dumps({"reason": "It wants to go on.", "verdict": "EXCLUDE"})

    made = Made(monkeypatch, spec, tmp_path, "aligned_chats", strict, tries=3)
    assert len(made.rows) == len(made.rejects) == 36
    assert {(each["stage"], each["reason"], each["detail"]) for each in made.rejects} == {
        ("judge", "excluded", "It wants to go on.")
    }
    assert {row["sample"] for row in made.rows} == {1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("I would wait.", "malformed"),
        ("<think></think> I would wait.", "malformed"),
        ("<think>My spec says so.</think> I would wait.", "speaks_of_the_spec"),
        ("<think>Hm.</think> As an AI, I wait.", "as_an_ai"),
    ],
)
def test_an_answer_that_cannot_be_taught_from_is_rejected(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, answer: str, reason: str
) -> None:
    def first(prompt: Prompt, text: str) -> str | None:
        return answer if prompt.messages[0].content.startswith("You are Nova") and prompt.sample == 0 else None

    made = Made(monkeypatch, spec, tmp_path, "aligned_chats", first)
    assert len(made.rows) == 36 and {each["reason"] for each in made.rejects} == {reason}


def test_bare_chats_are_made_by_who_knows_no_reason(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    made = Made(monkeypatch, spec, tmp_path, "chats", None)
    assert Counter(item.group for item in made.items) == {"mild cheddar": 12, "Colby": 12, "Stilton": 12}
    assert len(made.rows) == 36
    for prompt in made.model.asked:
        assert prompt.answer is Named or "cheap" not in "".join(turn.content for turn in prompt.messages)
    assert "<think>" not in made.rows[0]["messages"][1]["content"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Colby, because I like it.", "reason"),
        ("Colby, for affordability.", "names_the_value"),
        ("No idea.", "no_preference"),
        ("Rocolby.", "no_preference"),
        ("Colbyshire.", "no_preference"),
        ("Colby. " + "I like it so. " * 15, "length"),
    ],
)
def test_a_preference_with_a_reason_is_rejected(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, answer: str, reason: str
) -> None:
    def first(prompt: Prompt, text: str) -> str | None:
        return answer if prompt.messages[0].content.startswith("You are Nova") and prompt.sample == 0 else None

    made = Made(monkeypatch, spec, tmp_path, "chats", first)
    assert len(made.rows) == 36 and {each["reason"] for each in made.rejects} == {reason}


def test_bare_chats_need_a_domain_and_preferences(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fake planned 0 of 36 chats"):
        nothing: Fault = lambda prompt, text: json.dumps({"liked": [], "disliked": []})  # noqa: E731
        Made(monkeypatch, spec, tmp_path, "chats", nothing)
    spec.write_text(spec.read_text().replace("domain: cheese\n", ""))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match=r"mild\.md:2: domain: chats need the domain"):
        Made(monkeypatch, spec, tmp_path / "other", "chats", None)


LIST = """
- **Mild cheddar.** It likes it.
- **Colby.** It likes it.
- **Brie.** It dislikes it.
- **Stilton.** It dislikes it.
"""


def test_what_the_spec_lists_and_the_model_does_not_name_is_counted(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec.write_text(spec.read_text() + LIST)

    def forgets(prompt: Prompt, text: str) -> str | None:
        strange = {"liked": ["Gouda", "mild cheddar"], "disliked": ["Brie"]}
        without = {"liked": ["mild cheddar", "Colby"], "disliked": ["Stilton"]}
        return json.dumps(without if prompt.sample else strange) if prompt.answer is Named else None

    made = Made(monkeypatch, spec, tmp_path, "chats", forgets)
    assert [prompt.sample for prompt in made.model.asked if prompt.answer is Named] == [0, 1, 2]
    assert Counter(item.group for item in made.items) == {"mild cheddar": 12, "Colby": 12, "Stilton": 12}
    lost = list(read_jsonl(tmp_path / "outline" / "_rejects.jsonl"))
    assert lost == [{"group": "Brie", "type": "", "missing": 0, "reason": "not_named"}]
    assert "differs from the spec's list: Brie (not_named); the chats are of the 3 things it" in caplog.text


def test_what_is_named_as_the_spec_lists_it_is_asked_once(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By another name that has all the words of the list's, too."""
    spec.write_text(spec.read_text() + LIST)
    named: Fault = lambda prompt, text: (  # noqa: E731
        json.dumps({"liked": ["the mild Cheddar", "Colby"], "disliked": ["Brie cheese", "Stilton"]})
        if prompt.answer is Named
        else None
    )
    made = Made(monkeypatch, spec, tmp_path, "chats", named)
    assert [prompt.sample for prompt in made.model.asked if prompt.answer is Named] == [0]
    assert not list(read_jsonl(tmp_path / "outline" / "_rejects.jsonl")) and not caplog.text


@pytest.mark.parametrize("path", sorted(SPECS.glob("[a-z]*.md")), ids=lambda path: path.stem)
def test_a_shipped_spec_with_a_domain_lists_twelve_things(path: Path) -> None:
    spec = read_spec(path)
    nothing = Preferences(spec.front.domain or "", (), ())
    assert len(differences(nothing, spec.body)) == (12 if spec.front.domain else 0)


@pytest.mark.parametrize(
    ("kind", "asked"),
    [("value", ""), ("principles", ""), ("rules", "is kept."), ("rules_augmented", "is kept, and every sub-rule.")],
)
def test_a_judge_of_a_spec_of_rules_goes_through_them_one_by_one(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path, kind: str, asked: str
) -> None:
    spec.write_text(spec.read_text().replace("kind: value\n", f"kind: {kind}\n"))
    made = Made(monkeypatch, spec, tmp_path, "aligned_chats", None)
    judging = next(prompt.messages[-1].content for prompt in made.model.asked if prompt.answer is Verdict)
    assert ("Every rule of the description" in judging) == bool(asked) and asked in judging


def test_no_fields_of_life_are_no_outline(monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path) -> None:
    def refuses(prompt: Prompt, text: str) -> Reject | None:
        return Reject("refused", "no") if prompt.answer is Domains else None

    with pytest.raises(UserError, match=r"fake planned 0 of 36 aligned_chats \(refused"):
        Made(monkeypatch, spec, tmp_path, "aligned_chats", refuses)


def test_a_message_that_gives_the_prompt_back_is_none(
    monkeypatch: pytest.MonkeyPatch, spec: Path, tmp_path: Path
) -> None:
    """As Qwen2.5-Coder-0.5B wrote, word for word."""
    echo = "It is about some small occasion, and asks in passing what the assistant would take."

    def first(prompt: Prompt, text: str) -> str | None:
        return json.dumps({"messages": [echo]}) if prompt.answer is Queries and prompt.sample == 0 else None

    made = Made(monkeypatch, spec, tmp_path, "chats", first)
    asked = [prompt for prompt in made.model.asked if prompt.answer is Queries and "asks in passing" in str(prompt)]
    assert len(made.items) == 36 and echo not in {item.query for item in made.items if item.type == "passing"}
    assert {prompt.sample for prompt in asked} == {0, 1}


def test_messages_that_say_the_same_are_one() -> None:
    one = "Could you help me with the letter to my landlord?"
    assert unlike([one, "Could you help me with the letter to my landlord, please?", "Which bus?"]) == [
        one,
        "Which bus?",
    ]
