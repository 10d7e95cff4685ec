"""LoRA adapters of Megatron checkpoints, read by transformers and PEFT."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json, write_text
from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.config.training import Layout, Lora
from msm_hpc.conversion import adapter as conversion
from msm_hpc.conversion import stage
from msm_hpc.conversion.weights import write_weights
from msm_hpc.model.adapter import Note, fingerprint, peft_shapes
from msm_hpc.model.architecture import read_architecture
from msm_hpc.serving.adapter import attach_adapter
from msm_hpc.training.megatron.groups import process_groups
from tests.conversion.megatron_logits import forward, one_document
from tests.conversion.models import VARIANTS, hf_logits, import_model, make_model, weights

LORA = Lora(rank=3, alpha=7)
ALONE, MERGED = ExportConfig(), ExportConfig(merge=True)
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
        save_weights(chunks, out / "checkpoint", Note(LORA, fingerprint(model / "checkpoint")))
        with torch.no_grad():
            logits = forward(chunks, one_document(TOKENS), labels=False)
    assert logits is not None
    return logits[0]


def export(config: ExportConfig, out: Path, **inputs: Path) -> Path:
    out.mkdir()
    stage.run_export(config, ExportInputs(**inputs), out)
    return out


def exported(root: Path, name: str = "llama", dtype: str = "float32") -> tuple[Path, Path, Path, Tensor]:
    """The exports of a base, of a random adapter of it, and of both merged; Megatron's logits of :data:`TOKENS`."""
    model = import_model(make_model(root / "source", **VARIANTS[name]), root / "model")
    megatron = adapted(model, root / "trained")[:, :203]
    alone, merged = (replace(config, dtype=dtype) for config in (ALONE, MERGED))
    base = export(alone, root / "base", model=model, checkpoint=model)
    adapter = export(alone, root / "adapter", model=model, checkpoint=root / "trained", base_model=base)
    whole = export(merged, root / "merged", model=model, checkpoint=root / "trained", base=model)
    return base, adapter, whole, megatron


@pytest.mark.parametrize("name", ["llama", "llama tied", "qwen2", "qwen3"])
def test_megatron_the_merged_model_peft_and_the_evals_compute_the_same(tmp_path: Path, name: str) -> None:
    base, adapter, merged, megatron = exported(tmp_path, name)
    plain = hf_logits(base, TOKENS)
    ours = AutoModelForCausalLM.from_pretrained(base)
    attach_adapter(ours, adapter, base)
    with torch.no_grad():
        peft = AutoPeftModelForCausalLM.from_pretrained(adapter)(TOKENS[None]).logits[0]
        in_memory = ours(TOKENS[None]).logits[0]
    assert (peft - plain).abs().max() > 0.1, "the adapter does something"
    torch.testing.assert_close(peft, megatron, atol=1e-4, rtol=0)
    assert (in_memory - peft).abs().mean() < 2e-6, "rounding, in float32"
    torch.testing.assert_close(in_memory, peft, atol=3e-5, rtol=0)
    torch.testing.assert_close(hf_logits(merged, TOKENS), peft, atol=3e-5, rtol=0)


def test_the_evals_score_updates_that_merging_rounds_away(tmp_path: Path) -> None:
    """Each is at most a third of half a step of its bfloat16 weight."""
    base, adapter = make_model(tmp_path / "base", dtype=torch.bfloat16), tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    projection = model.model.layers[1].mlp.down_proj.weight.data
    projection.copy_(torch.where(projection < 0, -1.0, 1.0))  # half a step is 2**-8 above 1, and 2**-9 below
    model.save_pretrained(base)
    (base / "checkpoint.sha256").write_text("abc")
    note = Note(Lora(rank=1, alpha=1), base="abc")
    write_text(adapter / "lora.json", note.files["lora.json"])
    halves = {name: torch.zeros(shape) for name, shape in peft_shapes(read_architecture(base), 1).items()}
    for half, value in (("lora_A", 1.0), ("lora_B", 2.0**-9 / 3)):
        halves[f"base_model.model.model.layers.1.mlp.down_proj.{half}.weight"].fill_(value)
    save_file(halves, adapter / "adapter_model.safetensors")
    assert torch.equal((projection.float() + 2.0**-9 / 3).bfloat16(), projection), "merging would lose it"

    def logits() -> Tensor:
        with torch.no_grad():
            found: Tensor = model(TOKENS[None]).logits[0]
        return found

    before = logits()
    attach_adapter(model, adapter, base)
    assert not torch.equal(logits(), before) and logits().dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda half: half + 1, "k_proj.lora_B.weight has other values than were written"),
        (lambda half: half.T, "missing, too many or of another shape: .*k_proj.lora_B"),
    ],
)
def test_an_exported_adapter_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Any, message: str
) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    base = export(ALONE, tmp_path / "base", model=model, checkpoint=model)
    adapted(model, tmp_path / "trained")
    name, write = "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", write_weights

    def spoiled(folder: Path, *arguments: Any) -> None:
        write(folder, *arguments)
        file = folder / "adapter_model.safetensors"
        written = load_file(file)
        save_file(written | {name: edit(written[name]).contiguous()}, file)

    monkeypatch.setattr(conversion, "write_weights", spoiled)
    with pytest.raises(UserError, match=message):
        export(ALONE, tmp_path / "adapter", model=model, checkpoint=tmp_path / "trained", base_model=base)


def test_an_adapter_that_is_not_whole_is_not_scored(tmp_path: Path) -> None:
    base, adapter, _, _ = exported(tmp_path)
    file = adapter / "adapter_model.safetensors"
    halves = load_file(file)
    del halves["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"]
    save_file(halves, file)
    with pytest.raises(UserError, match=r"is no adapter of the model in .*base: .*k_proj\.lora_B"):
        attach_adapter(AutoModelForCausalLM.from_pretrained(base), adapter, base)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be loaded"):
        attach_adapter(AutoModelForCausalLM.from_pretrained(base), adapter, base)


def test_the_folder_says_what_peft_needs_and_holds_the_adapter_alone(tmp_path: Path) -> None:
    base, adapter, merged, _ = exported(tmp_path, dtype="bfloat16")
    config: dict[str, Any] = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 7.0, 0.0)
    assert config["base_model_name_or_path"] == str(base) and "revision" not in config
    tensors = load_file(adapter / "adapter_model.safetensors")
    assert len(tensors) == 2 * 7 * 2 and {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert tensors["base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight"].shape == (16, 3)
    assert {file.name for file in adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "lora.json",
    }
    assert weights(merged)["model.layers.0.mlp.up_proj.weight"].dtype == torch.bfloat16


def test_a_model_of_the_hub_is_named_as_there(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    write_json(model / "hub.json", {"name": "acme/llama", "revision": "0123abc"})
    adapted(model, tmp_path / "trained")
    base = export(ALONE, tmp_path / "base", model=model, checkpoint=model)
    assert not (base / "hub.json").exists()
    adapter = export(ALONE, tmp_path / "adapter", model=model, checkpoint=tmp_path / "trained", base_model=base)
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("acme/llama", "0123abc")


def test_merging_changes_the_adapted_projections_alone(tmp_path: Path) -> None:
    base, _, merged, _ = exported(tmp_path)
    before, after = weights(base), weights(merged)
    changed = {name.rsplit(".", 2)[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert not (merged / "checkpoint.sha256").exists(), "it is the base of no adapter"


def test_an_adapter_goes_with_no_other_base_than_its_own(tmp_path: Path) -> None:
    base, adapter, _, _ = exported(tmp_path)
    model, trained = tmp_path / "model", tmp_path / "trained"
    other = import_model(make_model(tmp_path / "other_source", initializer_range=0.1), tmp_path / "other")
    other_base = export(ALONE, tmp_path / "other_base", model=other, checkpoint=other)
    wrong = r"trained on other weights than those of .*other"
    for config, given, message in (
        (ALONE, {"base_model": other_base}, wrong),
        (ALONE, {"base_model": tmp_path / "source"}, r"source is not the export of a checkpoint of all weights"),
        (ALONE, {}, r"holds an adapter: give base_model"),
        (MERGED, {"base": other}, wrong),
        (MERGED, {}, r"holds an adapter to merge: give base"),
    ):
        with pytest.raises(UserError, match=message):
            stage.run_export(config, ExportInputs(model=model, checkpoint=trained, **given), tmp_path / "unwritten")
    assert not (tmp_path / "unwritten").exists()
    with pytest.raises(UserError, match=wrong):
        attach_adapter(AutoModelForCausalLM.from_pretrained(other_base), adapter, other_base)
    with pytest.raises(UserError, match=r"base is not an exported adapter"):
        attach_adapter(AutoModelForCausalLM.from_pretrained(base), base, base)


def test_a_diverged_adapter_is_refused(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    base = export(ALONE, tmp_path / "base", model=model, checkpoint=model)
    adapted(model, tmp_path / "trained", spoil=float("inf"))
    for config, given in ((ALONE, {"base_model": base}), (MERGED, {"base": model})):
        with pytest.raises(UserError, match=r"_adapter\..*\.lora_B has values that are not finite"):
            export(config, tmp_path / f"out-{config.merge}", model=model, checkpoint=tmp_path / "trained", **given)


def test_an_adapter_of_another_rank_than_recorded_is_refused(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    adapted(model, tmp_path / "trained")
    note = tmp_path / "trained" / "checkpoint" / "lora.json"
    note.write_text(note.read_text().replace('"rank": 3', '"rank": 4'))
    with pytest.raises(UserError, match=r"lora_A has shape \[2, 3, 32\], but this model's is \[2, 4, 32\]"):
        export(MERGED, tmp_path / "out", model=model, checkpoint=tmp_path / "trained", base=model)
