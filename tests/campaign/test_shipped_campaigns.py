"""Every campaign of the tree can be planned from a fresh clone: without weights, network, keys or Slurm."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import file_download
from rich.console import Console

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.asking import askings
from msm_hpc.campaign.needs import trainings
from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.judging import asking_lines, judged_line
from msm_hpc.cli.views.preview import asked_line
from msm_hpc.config.compose import choices

CELLS = {
    "cheese": 41,
    "reproduce_cheese": 25,
    "values": 77,
    "attribution": 164,
    "sections": 80,
    "agentic": 58,
    "token_efficiency": 174,
    "saturation": 104,
    "spec_science": 180,
    "scaling": 192,
}
"""Models x arms x specs x sizes x seeds, counted by hand."""
REPOSITORY = Path(__file__).parents[2]
COSTS = re.compile(r"#   costs  ([\d.]+) GPU-hours to train (\d+) models, ([\d.]+) for their evals")
OTHERS = {"demo", "demo_ladder", "own", "real_weights"}
SEVERAL_MODELS = ("spec_science", "scaling")
"""Slow: composed once for each of four models, and twelve."""


def test_all_campaigns_are_planned_here() -> None:
    assert {*CELLS, *OTHERS} == {*choices("campaign")}


def test_the_table_in_the_docs_has_their_models_and_the_hours_of_their_first_lines() -> None:
    text = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", text, re.MULTILINE)
    assert {name: int(models) for name, models, *_ in rows} == CELLS
    for name, models, training, evals in rows:
        first_lines = (REPOSITORY / f"configs/campaign/{name}.yaml").read_text(encoding="utf-8")
        assert COSTS.findall(first_lines) == [(training, models, evals)]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SEVERAL_MODELS)) for name in CELLS]
)
def test_a_campaign_is_planned_without_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_download.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    console = Console(record=True, width=1000, file=(tmp_path / "said").open("w"))
    session = Session((f"campaign={name}", "cluster=h200", f"root={tmp_path / 'runs'}"), console).ready(runs=False)
    assert len(session.graph.cells) == CELLS[name]
    found = trainings(session.graph, session.store, session.config.cluster, session.packed)
    assert found and all(each.seconds is not None for each in found), "each is forecast before there are any rows"
    asks = "the environment variable ANTHROPIC_API_KEY is not set" in console.export_text()
    assert asks == (name != "reproduce_cheese")
    assert bool(asked_line(session)) == asks, "tokens to generate, before any is paid for"
    asked = askings(session.graph, session.store, session.config.cluster)
    assert asked and all(each.seconds is not None for each in asked), "and each that asks a model"
    if name == "agentic":  # two verdicts a reply and its patterns, the open questions, and the replies that are coded
        count = CELLS[name] * (27 * 300 * (2 + 1) + 151) + 400
        assert f"claude-sonnet-4-6: at most {count:,} requests" in str(judged_line(session))
        agentic, open_qa = CELLS[name] * 27 * 300, CELLS[name] * 151
        (said,) = asking_lines(asked, session.config.cluster)
        assert f"{open_qa:,} replies of at most 2,048 tokens, {agentic:,} replies of at most 4,096 tokens" in said


def test_what_a_campaign_cannot_run_without_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    session = Session(("campaign=cheese", "cluster=h200", f"root={tmp_path / 'runs'}"), Console(quiet=True))
    with pytest.raises(UserError, match="the environment variable ANTHROPIC_API_KEY is not set; put the API key"):
        session.ready()
