"""LoRA adapters of Megatron checkpoints, read by transformers and PEFT."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.config.training import Layout, Lora
from msm_hpc.conversion import stage
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.megatron.groups import process_groups
from tests.conversion.megatron_logits import forward, one_document
from tests.conversion.models import VARIANTS, hf_logits, import_model, make_model, weights

LORA = Lora(rank=3, alpha=7)
BOTH = ExportConfig(adapter=True)
TOKENS = torch.arange(3, 43)


def adapted(model: Path, out: Path, spoil: float = 0.0) -> Tensor:
    """Save ``model`` with a random adapter, as a training run does; Megatron's logits of :data:`TOKENS`.

    ``spoil`` is added to one value of the adapter.
    """
    out.mkdir()
    with process_groups(Layout()):
        from msm_hpc.training.checkpoints.weights import load_weights, save_weights
        from msm_hpc.training.megatron.lora import adapt
        from msm_hpc.training.megatron.model import build_model, transformer_config

        architecture = read_architecture(model)
        chunks = build_model(architecture, transformer_config(architecture, Layout(), "fp32"))
        load_weights(chunks, model / "checkpoint")
        adapt(chunks, architecture, LORA)
        torch.manual_seed(1)
        adapter = [parameter for parameter in chunks[0].parameters() if parameter.requires_grad]
        for parameter in adapter:
            torch.nn.init.normal_(parameter, std=0.2)
        adapter[-1].data[0, 0] += spoil
        save_weights(chunks, out / "checkpoint", LORA)
        with torch.no_grad():
            logits = forward(chunks, one_document(TOKENS), labels=False)
    assert logits is not None
    return logits[0]


def export(model: Path, trained: Path, out: Path, config: ExportConfig = BOTH) -> Path:
    out.mkdir()
    stage.run_export(config, ExportInputs(model=model, checkpoint=trained), out)
    return out


@pytest.mark.parametrize("name", ["llama", "llama tied", "qwen2", "qwen3"])
def test_megatron_the_merged_model_and_peft_compute_the_same(tmp_path: Path, name: str) -> None:
    source = make_model(tmp_path / "source", **VARIANTS[name])
    model = import_model(source, tmp_path / "model")
    megatron = adapted(model, tmp_path / "trained")[:, :203]
    out = export(model, tmp_path / "trained", tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(source)
    plain = hf_logits(source, TOKENS)
    with torch.no_grad():
        peft = PeftModel.from_pretrained(base, out / "adapter")(TOKENS[None]).logits[0]
    assert (peft - plain).abs().max() > 0.1, "the adapter does something"
    torch.testing.assert_close(peft, megatron, atol=1e-4, rtol=0)
    torch.testing.assert_close(hf_logits(out, TOKENS), megatron, atol=1e-4, rtol=0)


def test_the_folder_says_what_peft_needs(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    adapted(model, tmp_path / "trained")
    folder = export(model, tmp_path / "trained", tmp_path / "out", replace(BOTH, dtype="bfloat16")) / "adapter"
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 7.0, 0.0)
    tensors = load_file(folder / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2 and {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"].shape == (16, 3)
    assert weights(tmp_path / "out")["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16


def test_only_the_merged_model_is_written_by_default(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    adapted(model, tmp_path / "trained")
    out = export(model, tmp_path / "trained", tmp_path / "out", ExportConfig())
    assert not (out / "adapter").exists()
    before, after = weights(tmp_path / "source"), weights(out)
    changed = {name.rsplit(".", 2)[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_a_checkpoint_without_an_adapter_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    with caplog.at_level(logging.INFO, "msm_hpc"):
        out = export(model, model, tmp_path / "out")
    assert "has no adapter: no adapter/ is written" in caplog.text and not (out / "adapter").exists()


def test_a_diverged_adapter_is_refused(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    adapted(model, tmp_path / "trained", spoil=float("inf"))
    with pytest.raises(UserError, match=r"_adapter\..*\.lora_B has values that are not finite"):
        export(model, tmp_path / "trained", tmp_path / "out")


def test_an_adapter_of_another_rank_than_recorded_is_refused(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    adapted(model, tmp_path / "trained")
    (tmp_path / "trained" / "checkpoint" / "lora.json").write_text('{"rank": 4, "alpha": 7}')
    with pytest.raises(UserError, match=r"lora_A has shape \[2, 3, 32\], but this model's is \[2, 4, 32\]"):
        export(model, tmp_path / "trained", tmp_path / "out")
