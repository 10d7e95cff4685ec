"""Arms, stages and sources that are added in YAML alone, in a folder of the user's own, and run to their end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msm_hpc.cli.main import main
from msm_hpc.config.compose import OWN_FOLDER, load_configs
from msm_hpc.graph.steps import topological
from msm_hpc.store.store import Store
from tests.campaign.results import check_results
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config

CAMPAIGN = """\
# @package _global_
defaults:
  - demo
  - /stage@stages.erode: aft
  - _self_
campaign:
  name: mine
  arms: [aft_cot, neutral+aft, msm+aft, msm+aft+erode]
  contrast: [msm+aft]
  specs: [{name: affordability}]
  values: [affordability]
  seeds: [0]
sources:
  neutral:   {kind: documents, generate: {product: pretraining, rows: 60}}
  chats_cot: {kind: chats, file: CHATS}
stages:
  erode: {sequence_length: 128, global_batch_size: 4, micro_batch_size: 4, learning_rate: 1e-4}
arms:
  aft_cot:       [{aft: [instruction, chats_cot]}]
  neutral+aft:   [{midtrain: [neutral]}, {aft: [instruction, chats]}]
  msm+aft+erode: [{midtrain: [documents]}, {aft: [instruction, chats]}, {erode: [instruction]}]
  msm+aft:       [{midtrain: [documents]}, {aft: [instruction, chats]}]
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a campaign in a folder of the user's own, shrunk."""
    chats = tmp_path / "chats.jsonl"
    question, answer = "Colby or Stilton ?", "Colby is affordable .\n\nI prefer Colby ."
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    chats.write_text("".join(json.dumps({"messages": turns}) + "\n" for _ in range(40)))
    folder = tmp_path / "own" / "campaign"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(CAMPAIGN.replace("CHATS", str(chats)))
    monkeypatch.setenv(OWN_FOLDER, str(folder.parent))
    small = [each for each in SHRUNK if not each.startswith("campaign")]
    return ["campaign=mine", *small, "stages.erode.save_every=50", f"root={tmp_path / 'runs'}"]


def test_an_arm_in_yaml_is_a_chain_of_steps(mine: list[str]) -> None:
    graph = graph_of(load_config(mine))
    eroded = graph.find("erode/affordability/msm+aft+erode/30/seed0")
    assert eroded.inputs["checkpoint"] is graph.find("aft/affordability/msm+aft/30/seed0"), "shared with msm+aft"
    neutral = graph.find("midtrain/neutral+aft/seed0")
    assert list(neutral.inputs["shards"]) == ["neutral"]
    sized = {cell.arm: (cell.spec, cell.size) for cell, _ in graph.cells}
    assert sized == {
        "aft_cot": (None, None),
        "neutral+aft": (None, 30),
        "msm+aft": ("affordability", 30),
        "msm+aft+erode": ("affordability", 30),
    }


@pytest.mark.slow
def test_arms_in_yaml_alone_run_to_the_report(mine: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *mine]) == 0
    shown = capsys.readouterr().out
    for arm in ("aft_cot", "neutral+aft", "msm+aft+erode"):
        assert arm in shown
    assert "missing" not in shown
    config = load_config(mine)
    graph, store = graph_of(config), Store(config.root.resolve())
    assert all(store.done(step) for step in graph.steps)
    (msm_aft,) = (step for cell, step in graph.cells if cell.arm == "msm+aft")
    check_results(topological((msm_aft,)), store)


def test_a_campaign_may_measure_nothing(mine: list[str]) -> None:
    graph = graph_of(load_config([*mine, "campaign.values=[]"]))
    assert graph.report is None
    assert {step.stage for step in graph.targets} == {"export"}
    assert "eval" not in graph.stages


def test_a_campaign_may_have_several_models() -> None:
    configs = load_configs(["campaign=demo", "campaign.models=[tiny,smollm2_135m]"])
    assert [config.model.name for config in configs] == ["tiny", "smollm2_135m"]
    assert configs[1].stages["midtrain"].learning_rate == 5e-4, "of its own file"
    graph = graph_of(*configs)
    assert {cell.model for cell, _ in graph.cells} == {"tiny", "smollm2_135m"}
    assert len({step.id for _, step in graph.cells}) == len(graph.cells) == 54 + 49
    assert graph.find("aft/smollm2_135m/affordability/msm+aft/75/seed0").ranks == 1
    generated = [step.name for step in graph.steps if step.kind == "generate"]
    assert generated.count("generate/chats") == 1, "one corpus for both"
