"""Against Megatron itself, and in bounded memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from msm_hpc.config.stages import ExportInputs
from msm_hpc.config.training import Layout
from msm_hpc.conversion import stage
from msm_hpc.conversion.weights import StoredWeights, write_weights
from tests.conversion.megatron_logits import FOUR, compute, compute_on_four
from tests.conversion.models import (
    FIELDS,
    FP32,
    VARIANTS,
    hf_logits,
    import_model,
    make_model,
    make_tokenizer,
    weights,
)
from tests.training.ranks import call_in_ranks

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("layout", [Layout(), FOUR], ids=["one", "four"])
def test_megatron_computes_the_same_model(tmp_path: Path, layout: Layout) -> None:
    """Megatron loads what we wrote, we export what Megatron saved, and both compute the same logits and losses."""
    tokens = torch.arange(3, 43)
    variants = ("llama tied", "llama 3.1", "qwen2", "qwen2 tied", "qwen3", "qwen3 tied")
    root = tmp_path / "models"
    folders = [root / name for name in variants]
    for folder in folders:
        fields = VARIANTS[folder.name] | {"num_hidden_layers": 4}
        import_model(make_model(folder / "source", **fields), folder / "model")
        (folder / "trained").mkdir()
        torch.save(tokens, folder / "tokens.pt")
    if layout == FOUR:
        call_in_ranks(tmp_path, FOUR.world_size, compute_on_four, root)
    else:
        compute(layout, folders)
    for folder in folders:
        out = folder / "exported"
        out.mkdir()
        stage.run_export(FP32, ExportInputs(model=folder / "model", checkpoint=folder / "trained"), out)
        before, after = weights(folder / "source"), weights(out)
        assert before.keys() == after.keys(), folder.name
        assert all(torch.equal(before[name], after[name]) for name in before), folder.name
        expected = hf_logits(out, tokens)
        megatron, losses = torch.load(folder / "outputs.pt")
        torch.testing.assert_close(megatron[:, :203], expected, atol=1e-4, rtol=0, msg=folder.name)
        assert (megatron[:, 203:] == -torch.inf).all(), "padding is left out of the softmax"
        of_hf = cross_entropy(expected[:-1], tokens[1:], reduction="none")
        torch.testing.assert_close(losses[:-1], of_hf, atol=1e-4, rtol=0, msg=folder.name)


@pytest.mark.slow
def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    """A model of 1.5 GB whose tensors have 23 MB at most, both ways: the peak is far below the model's own size."""
    wide = {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 15, "num_attention_heads": 16}
    source = make_tokenizer(tmp_path / "source")
    fields = {**FIELDS, **wide, "num_key_value_heads": 16, "head_dim": 128, "dtype": "bfloat16"}
    config = AutoConfig.for_model("qwen3", **fields, architectures=["Qwen3ForCausalLM"])
    config.save_pretrained(source)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    filled = ((name, torch.full(shape, i, dtype=torch.bfloat16)) for i, (name, shape) in enumerate(shapes.items()))
    write_weights(source, shapes, torch.bfloat16, filled)
    largest = 2 * max(parameter.numel() for parameter in model.parameters())
    assert (source / "model.safetensors").stat().st_size > 1.5e9 > 3 * largest + 2**30
    for direction, read, out in (("model", source, "model"), ("export", tmp_path / "model", "exported")):
        command = [sys.executable, "-m", "tests.conversion.peak_memory", direction, str(read), str(tmp_path / out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT)
        assert int(done.stdout) <= 3 * largest + 2**30
    exported = StoredWeights(tmp_path / "exported")
    for i, name in enumerate(shapes):
        assert torch.equal(exported[name], torch.full(shapes[name], i, dtype=torch.bfloat16)), name
    shutil.rmtree(tmp_path)
