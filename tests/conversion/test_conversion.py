"""Hugging Face to Megatron and back, through the model and export stages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import Architecture, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion import stage
from msm_hpc.conversion.checkpoint import CheckpointReader
from msm_hpc.conversion.mapping import global_tensors
from msm_hpc.model.architecture import FAMILIES as ARCHITECTURES
from msm_hpc.model.architecture import parse_architecture
from tests.composed import load_config
from tests.conversion.models import (
    BF16,
    FP32,
    TEMPLATE,
    VARIANTS,
    export,
    hf_logits,
    import_model,
    make_model,
    make_tokenizer,
    weights,
)

SCRATCH = Architecture(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rope_theta=5000.0,
)
FAMILIES = ("llama", "qwen2", "qwen3")


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_round_trip_is_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    source = make_model(tmp_path / "source", **changes)
    exported = export(import_model(source, tmp_path / "model"), tmp_path / "exported")
    before, after = weights(source), weights(exported)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    tokens = torch.arange(40)
    assert torch.equal(hf_logits(source, tokens), hf_logits(exported, tokens))


@pytest.mark.parametrize("model", ["llama3_1_8b", "qwen2_5_14b", "qwen3_32b", "smollm2_135m"])
def test_names_and_shapes_of_shipped_models_are_those_of_transformers(model: str) -> None:
    fields = load_config([f"model={model}"]).model.shape
    assert fields is not None
    ours = {
        name: shape
        for tensor in global_tensors(parse_architecture(model, fields))
        for layer in range(tensor.layers or 1)
        for name, shape in tensor.hf_shapes(layer).items()
    }
    (family,) = fields["architectures"]
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.for_model(ARCHITECTURES[family].model_type, **fields))
    assert ours == {name: tuple(parameter.shape) for name, parameter in built.named_parameters()}


def test_the_tokenizer_goes_with_the_model(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(export(import_model(source, tmp_path / "model"), tmp_path / "exported"))
    assert tokenizer("word3 word7")["input_ids"] == [6, 10]
    assert tokenizer.chat_template == TEMPLATE


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_weights_stay_exact(tmp_path: Path, family: str) -> None:
    source = make_model(tmp_path / "source", family, dtype=torch.bfloat16)
    model = import_model(source, tmp_path / "model")
    narrow = export(model, tmp_path / "bf16", BF16)
    wide = export(model, tmp_path / "fp32", FP32)
    for name, weight in weights(source).items():
        assert weight.dtype == torch.bfloat16
        assert torch.equal(weight, weights(narrow)[name])
        assert torch.equal(weight.float(), weights(wide)[name])
    assert AutoModelForCausalLM.from_pretrained(narrow, dtype="auto").dtype == torch.bfloat16
    assert AutoModelForCausalLM.from_pretrained(wide, dtype="auto").dtype == torch.float32


def test_the_revision_asked_for_is_taken_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the hub's cache, where another commit was downloaded last."""
    asked, last = "a" * 40, "b" * 40
    cache = tmp_path / "hub" / "models--someone--tiny"
    source = make_model(cache / "snapshots" / asked)
    make_model(cache / "snapshots" / last, num_hidden_layers=1)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(last)
    out = tmp_path / "model"
    out.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    stage.run_model(ModelConfig(name="tiny", hub="someone/tiny", revision=asked), ModelInputs(), out)
    before, after = weights(source), weights(export(out, tmp_path / "exported"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("gguf_file", [None, "tiny.gguf"])
def test_an_adapter_is_named_after_the_hub_where_peft_can_load_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gguf_file: str | None
) -> None:
    source, out = make_model(tmp_path / "source"), tmp_path / "model"
    out.mkdir()
    monkeypatch.setattr(stage, "download", lambda *_: source)  # in the place of GGUF, which needs more packages
    stage.run_model(ModelConfig(name="tiny", hub="a/b", revision="c" * 40, gguf_file=gguf_file), ModelInputs(), out)
    assert (out / "hub.json").exists() == (gguf_file is None)


def test_global_tensors_are_padded_stacked_and_grouped(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source")
    checkpoint = CheckpointReader(import_model(source, tmp_path / "model") / "checkpoint")
    embedding = checkpoint.read("embedding.word_embeddings.weight", torch.float32)
    assert embedding.shape == (256, 32)
    assert (embedding[203:] == 0).all()
    qkv = checkpoint.read("decoder.layers.self_attention.linear_qkv.weight", torch.float32)
    assert qkv.shape == (2, 64, 32)
    layer = {name: weights(source)[f"model.layers.1.self_attn.{name}_proj.weight"] for name in "qkv"}
    rows = [layer["q"][:16], layer["k"][:8], layer["v"][:8], layer["q"][16:], layer["k"][8:], layer["v"][8:]]
    assert torch.equal(qkv[1], torch.cat(rows))
    assert "output_layer.weight" in checkpoint.shapes


def test_tied_embeddings_have_no_output_layer(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source", tie_word_embeddings=True), tmp_path / "model")
    assert "output_layer.weight" not in CheckpointReader(model / "checkpoint").shapes


def test_a_model_from_scratch_is_described_without_weights(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    out = tmp_path / "model"
    out.mkdir()
    stage.run_model(ModelConfig(name="toy", architecture=SCRATCH), ModelInputs(tokenizer=tokenizer), out)
    assert not (out / "checkpoint").exists()
    config = AutoConfig.from_pretrained(out)
    assert config.architectures == ["LlamaForCausalLM"]
    assert (config.vocab_size, config.pad_token_id, config.eos_token_id, config.head_dim) == (203, 1, 2, 8)
    assert config.rope_parameters["rope_theta"] == 5000.0
    assert (out / "tokenizer.json").read_bytes() == (tokenizer / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained(out).chat_template == TEMPLATE


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it has no tokenizer\.json"):
        stage.run_model(ModelConfig(name="toy", architecture=SCRATCH), ModelInputs(tokenizer=tmp_path), tmp_path)


def edit_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_what_cannot_be_imported_is_refused_with_the_reason(tmp_path: Path) -> None:
    def refuses(source: Path, message: str) -> None:
        shutil.rmtree(tmp_path / "model", ignore_errors=True)
        with pytest.raises(UserError, match=message):
            import_model(source, tmp_path / "model")

    refuses(tmp_path / "nowhere", "nowhere does not exist; correct model.folder")
    refuses(make_model(tmp_path / "biased", attention_bias=True), "attention_bias: True is not supported")
    refuses(make_model(tmp_path / "windows", "qwen2", use_sliding_window=True), "use_sliding_window: True")
    refuses(edit_config(make_model(tmp_path / "new"), logit_scale=2.0), r"config\.json: logit_scale: unknown")
    refuses(
        edit_config(make_model(tmp_path / "quantized"), quantization_config={"quant_method": "fp8"}),
        "quantized weights",
    )
    refuses(edit_config(make_model(tmp_path / "deep"), num_hidden_layers=3), r"lacks weights: .*layers\.2\.")
    refuses(edit_config(make_model(tmp_path / "flat"), num_hidden_layers=1), r"does not provide for: .*layers\.1\.")
    refuses(edit_config(make_model(tmp_path / "wide"), intermediate_size=64), r"another shape .*mlp\.up_proj")
    refuses(make_model(tmp_path / "narrow", vocab_size=100), r"largest id is 202 .'word199'., but .* vocab_size 100")
    refuses(
        edit_config(make_model(tmp_path / "alien"), model_type="alien", architectures=["Alien"]),
        r"\['Alien'\] cannot be trained",
    )
    torn = make_model(tmp_path / "torn")
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:3000])
    refuses(torn, r"torn/model\.safetensors cannot be loaded")

    other = MistralConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    MistralForCausalLM(other).save_pretrained(tmp_path / "mistral")
    make_tokenizer(tmp_path / "mistral")
    refuses(tmp_path / "mistral", r"\['MistralForCausalLM'\] cannot be trained; supported are LlamaForCausalLM, Qwen2")


def test_stored_weights_that_do_not_match(tmp_path: Path) -> None:
    def change(name: str, **changes: Any) -> Path:
        folder = make_model(tmp_path / name, **changes)
        save_file(edits[name](weights(folder)), folder / "model.safetensors", {"format": "pt"})
        return folder

    edits: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
        "tied": lambda old: {**old, "lm_head.weight": old["model.embed_tokens.weight"] + 1},
        "same": lambda old: {**old, "lm_head.weight": old["model.embed_tokens.weight"].clone()},
        "mixed": lambda old: {**old, "model.norm.weight": old["model.norm.weight"].half()},
        "whole": lambda old: {**old, "model.norm.weight": old["model.norm.weight"].int()},
        "old": lambda old: {**old, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)},
    }
    for name, message in (
        ("tied", "ties lm_head.weight to the embeddings, but they differ"),
        ("mixed", "weights of several dtypes"),
        ("whole", r"model\.norm\.weight is I32; only F32, BF16, F16"),
    ):
        with pytest.raises(UserError, match=message):
            import_model(change(name, tie_word_embeddings=name == "tied"), tmp_path / f"{name}_model")
    for name in ("same", "old"):
        source = change(name, tie_word_embeddings=name == "same")
        after = weights(export(import_model(source, tmp_path / f"{name}_model"), tmp_path / f"{name}_exported"))
        assert edits[name](after).keys() == weights(source).keys(), "weights that are stored needlessly are left out"


def test_shards_of_a_source_are_read_by_their_index(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", "qwen3", shard="20KB")
    shards = sorted(source.glob("model-*.safetensors"))
    assert len(shards) > 2 and not (source / "model.safetensors").exists()
    exported = export(import_model(source, tmp_path / "model"), tmp_path / "exported")
    before = {name: weight for shard in shards for name, weight in load_file(shard).items()}
    after = weights(exported)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    shards[1].unlink()
    with pytest.raises(UserError, match=rf"index\.json names files that are not there: {shards[1].name}"):
        import_model(source, tmp_path / "again")


def test_weights_that_are_not_in_safetensors(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source", "qwen2")
    before = weights(source)
    torch.save(before, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    after = weights(export(import_model(source, tmp_path / "model"), tmp_path / "exported"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    whole = (source / "pytorch_model.bin").read_bytes()
    for number, damaged in enumerate((whole[: len(whole) // 2], b"", b"not a pickle")):
        (source / "pytorch_model.bin").write_bytes(damaged)
        with pytest.raises(UserError, match="source cannot be loaded by transformers"):
            import_model(source, tmp_path / str(number))


def test_a_checkpoint_of_another_model_is_not_exported(tmp_path: Path) -> None:
    tied = import_model(make_model(tmp_path / "tied", tie_word_embeddings=True), tmp_path / "tied_model")
    untied = import_model(make_model(tmp_path / "untied"), tmp_path / "untied_model")
    wide = import_model(make_model(tmp_path / "wide", intermediate_size=64), tmp_path / "wide_model")
    out = tmp_path / "out"
    out.mkdir()
    for model, checkpoint, message in (
        (untied, tied, r"lacks output_layer\.weight: it is not a checkpoint of this model"),
        (tied, untied, r"has output_layer\.weight, which this model lacks"),
        (untied, wide, r"linear_fc1\.weight has shape \[2, 128, 32\], but this model's is \[2, 96, 32\]"),
        (untied, tmp_path, r"checkpoint is not a torch_dist checkpoint"),
        (tmp_path, untied, r"config\.json does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            stage.run_export(FP32, ExportInputs(model=model, checkpoint=checkpoint), out)


def test_a_damaged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    for data in (model / "checkpoint").glob("*.distcp"):
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(UserError, match="the checkpoint is damaged"):
        export(model, tmp_path / "out")


def test_a_diverged_checkpoint_is_not_exported(tmp_path: Path) -> None:
    source = make_model(tmp_path / "source")
    broken = AutoModelForCausalLM.from_pretrained(source)
    broken.model.layers[1].mlp.up_proj.weight.data[5, 5] = float("nan")
    broken.save_pretrained(source)
    model = import_model(source, tmp_path / "model")
    with pytest.raises(UserError, match=r"mlp\.linear_fc1\.weight has values that are not finite"):
        export(model, tmp_path / "out")
