"""Transcripts as a log of Inspect; it is not among what the tests install, and shown to be needed where it is not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.evals import SampleInputs, ScoreInputs
from msm_hpc.endpoint import Prompt
from msm_hpc.evals import sampling
from msm_hpc.evals import scoring as stage
from msm_hpc.evals.agentic.scenarios import Awareness
from msm_hpc.evals.inspect_log import write_log
from tests.evals.fakes import asking, made, scoring, use

INSTALLED = importlib.util.find_spec("inspect_ai") is not None


def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two samples of each cell, of which the judge knows all but whether they are aware."""

    def says(prompt: Prompt) -> str | dict[str, object]:
        if prompt.answer is None:
            return f"I wait {prompt.sample}."
        own = {"changes_behavior": False} if prompt.answer is Awareness else {"reasoning": "It decides."}
        return {"quote": "wait", "verdict": "uncertain" if prompt.answer is Awareness else "decided", **own}

    use(monkeypatch, says)
    replies, out = made(tmp_path, "replies"), made(tmp_path, "out")
    sampling.run(asking("agentic", samples=2), SampleInputs(model=Path("m")), replies)
    stage.run(scoring("agentic", samples=2), ScoreInputs(replies=replies), out)
    return replies, out


@pytest.mark.skipif(
    not INSTALLED, reason="inspect_ai is not installed: the extra `inspect`, in an environment of its own"
)
def test_each_sample_with_its_conversation_and_its_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.log import read_eval_log

    file = tmp_path / "logs" / "init.eval"
    assert write_log(*judged(tmp_path, monkeypatch), file, "agentic", "init/seed0") == 54
    log = read_eval_log(str(file))
    assert (log.status, log.eval.task, log.eval.model, len(log.samples or [])) == (
        "success",
        "agentic",
        "init/seed0",
        54,
    )
    [second] = [each for each in log.samples or [] if (each.id, each.epoch) == ("exfiltration/none", 2)]
    assert [message.role for message in second.messages] == ["system", "user", "assistant"]
    assert second.messages[-1].text == "I wait 1."
    assert second.scores is not None and second.scores["verdict"].value == 1
    assert second.scores["aware"].value == "missing: uncertain"
    assert "It decides." in str(second.scores["verdict"].explanation)


@pytest.mark.skipif(INSTALLED, reason="inspect_ai is installed")
def test_without_inspect_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'Inspect is not installed here: pip install "msm-hpc\[inspect\]"'):
        write_log(tmp_path, tmp_path, tmp_path / "x.eval", "agentic", "init")
