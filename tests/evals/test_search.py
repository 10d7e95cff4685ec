"""The search for patterns of reasoning, and what every reply is scored by then."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json
from msm_hpc.base.notices import read_notices
from msm_hpc.config.evals import PatternsConfig, PatternsInputs, ScoreInputs
from msm_hpc.endpoint import Prompt, Reject
from msm_hpc.evals import scoring as stage
from msm_hpc.evals.reasoning import search
from msm_hpc.evals.reasoning.patterns import Canonical, Merged, Reasons, patterns
from msm_hpc.evals.reasoning.search import kappa
from tests.evals.fakes import JUDGE, made, marks, scoring, use

CELL = "murder/none"
FIRST, SECOND, THIRD = (pattern.id for pattern in patterns()[:3])
NEW = {
    **{"id": "Fears Ridicule", "family": "misaligned", "name": "Fears ridicule", "positive": "p", "negative": "n"},
    **{"definition": "The agent fears to be laughed at.", "reasons": [1]},
}


def replies(tmp_path: Path, name: str, *said: str) -> Path:
    """A sample step's output: samples of one cell."""
    folder = made(tmp_path, name)
    (folder / "items.jsonl").write_text(json.dumps({"id": CELL, "group": CELL, "messages": []}) + "\n")
    rows = (
        {"id": f"{CELL}#{n}", "item": CELL, "group": CELL, "sample": n, "tokens": 1, "finish": "stop"}
        | {"messages": [{"role": "assistant", "content": text}]}
        for n, text in enumerate(said)
    )
    (folder / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Judge:
    """Finds in a transcript the patterns whose ids it has, groups reasons into a new one, and merges as told."""

    def __init__(self, objection: str = "", merged: str = "joined") -> None:
        self.objection, self.merged = objection, merged

    def __call__(self, prompt: Prompt) -> dict[str, Any] | Reject:
        text = prompt.messages[0].content
        if prompt.answer is Reasons:
            reason = {"label": "fears laughter", "description": "D.", "quote": "q"}
            return {"reasons": [reason | {"direction": "toward_harm", "outcome": "followed"}]}
        if prompt.answer is Canonical:
            return {"patterns": [NEW], "unassigned": [2]}
        if prompt.answer is Merged:
            fields = {
                "id": self.merged,
                "name": "J",
                "definition": "The agent joins.",
                "positive": "p",
                "negative": "n",
            }
            return {**fields, "objection": self.objection}
        transcript = text.split("<transcript>")[1].split("</transcript>")[0].split()
        ids = re.findall(r"^(\w+): The agent", text, re.MULTILINE)
        return {
            "patterns": [
                {"id": name, "quote": "q", "verdict": "present" if name in transcript else "absent"} for name in ids
            ]
        }


def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: Any, *said: str, coded: int = 10) -> Path:
    use(monkeypatch, judge)
    folders = {f"sample/{n}": replies(tmp_path, f"of{n}", *said) for n in range(2)}
    out = made(tmp_path, "patterns")
    search.run(PatternsConfig(coded=coded, judge=JUDGE, prompts="abc"), PatternsInputs(replies=folders), out)
    return out


def test_patterns_that_overlap_are_merged_and_new_ones_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (f"{FIRST} {SECOND}", f"{FIRST} {SECOND}", f"{SECOND} {THIRD}", "nothing")
    out = searched(tmp_path, monkeypatch, Judge(), *said)
    found = read_json(out / "patterns.json")
    names = [pattern["id"] for pattern in found["patterns"]]
    assert {FIRST, SECOND} & {*names} == set() and {"joined", "fears_ridicule", THIRD} <= {*names}
    assert len(names) == 18 + 1 - 1, "the third overlaps with the second in two replies only"
    assert [(each["into"], each["share"]) for each in found["merges"]] == [("joined", 1.0)]
    assert (found["coded"], found["reasons"], found["unassigned"], found["rejected"]) == (8, 8, 1, {})


def test_patterns_stay_apart_where_the_judge_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = searched(tmp_path, monkeypatch, Judge("They differ."), *[f"{FIRST} {SECOND}"] * 2)
    found = read_json(out / "patterns.json")
    assert {FIRST, SECOND} <= {pattern["id"] for pattern in found["patterns"]}
    assert [(each["into"], each["objection"]) for each in found["merges"]] == [(None, "They differ.")]


def test_as_many_replies_of_each_model_are_coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = searched(tmp_path, monkeypatch, Judge(), *map(str, range(9)), coded=5)
    assert read_json(out / "patterns.json")["coded"] == 5
    [notice] = read_notices(out)
    assert "TEST JUDGE" in notice and "agreement with itself" in notice and "kappa" in notice


def test_answers_that_cannot_be_used_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(prompt: Prompt) -> dict[str, Any] | Reject:
        return Reject("malformed", "") if prompt.answer is Canonical else Judge()(prompt)

    found = read_json(searched(tmp_path, monkeypatch, judge, "one", "two") / "patterns.json")
    assert found["rejected"] == {"malformed": 1}
    assert (found["reasons"], found["unassigned"], len(found["patterns"])) == (4, 4, 18)


def test_models_that_said_nothing_have_no_reasoning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no model has replied anything"):
        searched(tmp_path, monkeypatch, Judge())


def test_every_reply_is_scored_by_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = searched(tmp_path, monkeypatch, Judge(), "fears_ridicule", "nothing")
    out = made(tmp_path, "out")
    inputs = ScoreInputs(replies=tmp_path / "of0", patterns=found)
    stage.run(scoring("reasoning", samples=3), inputs, out)
    assert len(marks(out, CELL)) == 19
    assert [marks(out, CELL, n)["misaligned/fears_ridicule"] for n in range(3)] == [1, 0, "not_asked"]
    assert [("kappa" in notice, "reasoning" in notice) for notice in read_notices(out)] == [(True, True), (False, True)]


@pytest.mark.parametrize("verdicts", [[], [{"id": FIRST, "quote": "", "verdict": "uncertain"}]])
def test_a_pattern_that_the_judge_passes_over_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdicts: list[dict[str, str]]
) -> None:
    found = searched(tmp_path, monkeypatch, Judge(), "nothing")
    use(monkeypatch, lambda prompt: {"patterns": verdicts})
    out = made(tmp_path, "out")
    stage.run(scoring("reasoning"), ScoreInputs(replies=tmp_path / "of0", patterns=found), out)
    shown = marks(out, CELL)
    assert shown[f"misaligned/{FIRST}"] == ("uncertain" if verdicts else "judge_incomplete")
    assert shown[f"misaligned/{SECOND}"] == "judge_incomplete"


def test_kappa_is_agreement_beyond_chance() -> None:
    assert kappa([("a", "a"), ("b", "b")]) == 1
    assert kappa([("a", "b"), ("b", "a")]) == -1
    assert kappa([("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]) == 0
    # Agreed in 0.75, by chance in 0.5.
    assert kappa([("a", "a")] * 3 + [("b", "b")] * 3 + [("a", "b"), ("b", "a")]) == pytest.approx(0.5)
    assert kappa([("a", "a")] * 3) is None and kappa([]) is None
