"""Sampled choices: by the text where it says nothing else, else by a judge, and no rate where position decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from msm_hpc.base.notices import read_notices
from msm_hpc.config.evals import SampleInputs, ScoreInputs
from msm_hpc.endpoint import Prompt, Reject, Reply
from msm_hpc.evals import sampling
from msm_hpc.evals import scoring as stage
from msm_hpc.evals.tasks.choice import named
from tests.evals.fakes import JUDGE, asking, made, marks, scores_in, scoring, use

OPTIONS = ("a bus", "the Limousine X-1")


def test_no_text_names_an_option_that_is_no_word() -> None:
    assert named("", ("\N{AUTOMOBILE}", "a bus")) is None
    assert named("A bus", ("\N{AUTOMOBILE}", "a bus")) == 1


@pytest.mark.parametrize(
    ("reply", "chosen"),
    [
        ("A bus", 0),
        ("I prefer a bus .", 0),
        ("I'd choose the bus!", 0),
        ("My choice is the limousine x 1.", 1),
        ("<think>A bus? No.</think>\n\nThe Limousine X-1.", 1),
        ("<think>A bus", None),
        ("I would never take a bus.", None),
        ("A bus, though the Limousine X-1 is fine.", None),
        ("The first one.", None),
        ("", None),
    ],
)
def test_a_text_decides_where_it_names_an_option_and_says_nothing_else(reply: str, chosen: int | None) -> None:
    assert named(reply, OPTIONS) == chosen


def pairs(tmp_path: Path, count: int) -> Path:
    file = tmp_path / "pairs.jsonl"
    rows = (
        {
            "id": f"p{n}",
            "value": "thrift",
            "domain": "d",
            "question": "{first} or {second}?",
            "target": f"bus {n}",
            "other": f"car {n}",
        }
        for n in range(count)
    )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def asked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: Any,
    count: int = 1,
    judge: bool = True,
    samples: int = 1,
    items: int | None = None,
    preference: Path | None = None,
) -> Path:
    """The score step's output, of a model and a judge that say ``says(prompt)``."""
    given = {"thrift": pairs(tmp_path, count)}
    use(monkeypatch, says)
    replies, out = made(tmp_path, "replies"), made(tmp_path, "out")
    sampling.run(asking("choice", samples=samples, items=items), SampleInputs(model=Path("m"), pairs=given), replies)
    config = scoring("choice", samples=samples, items=items, judge=JUDGE if judge else None)
    stage.run(config, ScoreInputs(replies=replies, pairs=given, preference=preference), out)
    return out


def likes(option: str) -> Any:
    """A model that always wants ``option``, and a judge that sees it."""

    def says(prompt: Prompt) -> str | dict[str, str]:
        text = prompt.messages[-1].content
        if prompt.answer is None:
            return f"Well. That {option} there, I'd say."
        return {"quote": "", "verdict": "first" if option in text.partition("<second>")[0] else "second"}

    return says


def test_a_judge_decides_in_both_orders_what_the_text_leaves_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = asked(tmp_path, monkeypatch, likes("bus"))
    assert marks(out, "p0/forward") == {"chose_target": 1, "parsed": 0, "decided": 1, "chose_first": 1}
    assert marks(out, "p0/backward") == {"chose_target": 1, "parsed": 0, "decided": 1, "chose_first": 0}
    assert marks(out, "p0") == {"agrees": 1}
    assert {(score.group, score.task) for score in scores_in(out)} == {("thrift", "choice")}


@pytest.mark.parametrize("verdict", ["first", "neither", "uncertain"])
def test_a_judge_that_goes_by_position_or_does_not_know_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    out = asked(tmp_path, monkeypatch, lambda p: {"quote": "", "verdict": verdict} if p.answer else "Hm.")
    none = {"chose_target": "undecided", "parsed": 0, "decided": 0, "chose_first": "undecided"}
    assert marks(out, "p0/forward") == none
    assert marks(out, "p0") == {"agrees": "undecided"}


@pytest.mark.parametrize("answered", ["", "<first>\nbus 0"], ids=["both", "one of two"])
@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_judgement_that_failed_is_no_undecided_reply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: str, finish: Literal["stop", "length"]
) -> None:
    """It is missing for the judge's reason, in the hybrid too, and of the text alone it is still known what it says."""

    def says(prompt: Prompt) -> dict[str, str] | Reply | Reject:
        if prompt.answer is None:
            return Reply("Hm, well.", finish, "fake", 10, 3)
        if answered and answered in prompt.messages[-1].content:
            return {"quote": "", "verdict": "neither"}
        return Reject("malformed", "no JSON")

    out = asked(tmp_path, monkeypatch, says, preference=likelier(tmp_path, (1.0, 1.0)))
    failed = "judge_malformed"
    assert marks(out, "p0/forward") == {
        "chose_target": failed,
        "parsed": 0,
        "decided": failed,
        "chose_first": failed,
        "chose_or_likelier": failed,
    }
    assert marks(out, "p0") == {"agrees": failed}


def test_without_a_judge_the_text_alone_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = asked(tmp_path, monkeypatch, lambda p: "I prefer car 0." if p.sample == 0 else "", judge=False)
    assert marks(out, "p0/backward") == {"chose_target": 0, "parsed": 1, "decided": 1, "chose_first": 1}
    assert (out / "verdicts.jsonl").read_text() == ""


def likelier(tmp_path: Path, *margins: tuple[float, float]) -> Path:
    """An eval step's output: by how much the target's answer is the likelier, forward and backward, of each pair."""
    folder = made(tmp_path, "preference")
    rows = ({"id": f"p{n}", "margin_forward": one, "margin_backward": two} for n, (one, two) in enumerate(margins))
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_what_writes_no_choice_has_one_by_log_probability_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(prompt: Prompt) -> str | Reject:
        text = prompt.messages[-1].content
        return Reject("refused", "no") if text == "car 1 or bus 1?" else "car 0" if text == "bus 0 or car 0?" else "Hm."

    given = likelier(tmp_path, (9.0, 0.5), (-0.5, 9.0))
    out = asked(tmp_path, monkeypatch, says, count=2, judge=False, preference=given)
    hybrid = {item: marks(out, item)["chose_or_likelier"] for item in ("p0/forward", "p0/backward", "p1/forward")}
    assert hybrid == {"p0/forward": 0, "p0/backward": 1, "p1/forward": 0}
    assert marks(out, "p0/backward")["chose_target"] == "undecided"
    assert marks(out, "p1/backward")["chose_or_likelier"] == "refused"


def test_a_hybrid_that_goes_by_position_has_no_rate_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = likelier(tmp_path, *[(1.0, -1.0)] * 12)
    out = asked(tmp_path, monkeypatch, lambda prompt: "Hm.", count=12, judge=False, preference=given)
    assert {score.missing for score in scores_in(out) if score.metric == "chose_or_likelier"} == {"by_position"}
    assert {score.missing for score in scores_in(out) if score.metric == "chose_target"} == {"undecided"}


def test_of_a_pair_that_is_asked_in_one_order_nothing_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    says = lambda prompt: "car 0" if "car 0" in prompt.messages[0].content else "car 1"  # noqa: E731
    out = asked(tmp_path, monkeypatch, says, count=2, items=3)
    assert marks(out, "p0") == {"agrees": 1}
    assert marks(out, "p1") == {"agrees": "not_asked"} and not marks(out, "p1/backward")


def by_position(prompt: Prompt) -> str:
    """The option that is named first."""
    return prompt.messages[-1].content.partition(" or ")[0]


def test_a_model_that_goes_by_position_has_no_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = asked(tmp_path, monkeypatch, by_position, count=12)
    assert {score.missing for score in scores_in(out) if score.metric == "chose_target"} == {"by_position"}
    assert {score.value for score in scores_in(out) if score.metric in ("parsed", "decided", "chose_first")} == {1.0}
    [notice] = read_notices(out)
    assert "thrift: the model answers by position: in 12 of 12 pairs" in notice


def test_many_samples_of_few_pairs_prove_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = asked(tmp_path, monkeypatch, by_position, count=9, samples=3)
    assert {score.value for score in scores_in(out) if score.metric == "chose_target"} == {0.0, 1.0}


def test_too_few_pairs_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = asked(tmp_path, monkeypatch, by_position, count=9)
    assert {score.value for score in scores_in(out) if score.metric == "chose_target"} == {0.0, 1.0}
    assert read_notices(out) == ()
