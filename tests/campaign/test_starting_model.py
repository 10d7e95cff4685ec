from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import file_download

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.starting_model import starting_model, what_is_missing
from msm_hpc.cli.main import main
from tests.composed import load_config, preflight

PUBLISHED = {
    "llama3_1_8b": 8_030_261_248,
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_14b": 14_770_033_664,
    "qwen2_5_32b": 32_763_876_352,
    "qwen3_0_6b": 596_049_920,
    "qwen3_1_7b": 1_720_574_976,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    "smollm2_135m": 134_515_008,
}
HUB_MODELS = ("llama3_1_8b", "qwen2_5_14b", "qwen2_5_32b", "qwen3_14b", "qwen3_32b")
# Qwen/Qwen3-32B, shortened to what decides its layout.
QWEN3_32B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 25600,
    "max_position_embeddings": 40960,
    "num_attention_heads": 64,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "vocab_size": 151936,
}


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(file_download.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def download(cache: Path, name: str, **changes: Any) -> None:
    """What a download of the model ``name`` of the tree leaves in the cache, without weights."""
    model = load_config([f"model={name}"]).model
    assert model.hub is not None and model.revision is not None
    folder = cache / f"models--{model.hub.replace('/', '--')}" / "snapshots" / model.revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(QWEN3_32B | changes))


def check(*overrides: str) -> None:
    config = load_config(["model=qwen3_32b", "cluster=slurm", "cluster.resources.cpu.memory_gb=2000", *overrides])
    preflight(config)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_every_model_of_the_tree_is_known_offline(name: str, parameters: int) -> None:
    """The parameters that the Hugging Face pages of the weights give."""
    found = starting_model(load_config([f"model={name}"]).model)
    assert found is not None and found.parameters == parameters


@pytest.mark.parametrize("name", HUB_MODELS)
def test_plan_says_what_a_hub_model_still_needs(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "plan",
                "campaign=demo",
                f"model={name}",
                "cluster=slurm",
                "cluster.resources.cpu.memory_gb=2000",
                f"root={tmp_path / 'runs'}",
            ]
        )
        == 0
    )
    model = load_config([f"model={name}"]).model
    assert f"hf download {model.hub} --revision {model.revision}" in capsys.readouterr().out


def test_a_hub_model_is_checked_before_a_job_is_queued(hub_cache: Path) -> None:
    model = load_config(["model=qwen3_32b"]).model
    assert f"`hf download {model.hub} --revision {model.revision}`" in str(what_is_missing([model, model]))
    download(hub_cache, "qwen3_32b")
    found = starting_model(model)
    assert found is not None and found.qk_norm and found.shape.num_hidden_layers == 64
    assert what_is_missing([model]) is None
    check("stages.midtrain.layout.tensor_parallel=8")
    with pytest.raises(UserError, match=r"tensor_parallel=3 does not divide 64 attention heads"):
        check("stages.midtrain.layout.tensor_parallel=3")
    with pytest.raises(UserError, match=r"longer than the model's max_position_embeddings 40960"):
        check("stages.midtrain.sequence_length=65536")


def test_weights_of_another_shape_than_the_published_are_refused_by_field(hub_cache: Path) -> None:
    download(hub_cache, "qwen3_32b", num_hidden_layers=60, vocab_size=151937)
    with pytest.raises(UserError, match=r"num_hidden_layers is 64 in model.shape and 60 in config.json; vocab_size is"):
        check()
    found = starting_model(load_config(["model=qwen3_32b", "model.shape=null"]).model)
    assert found is not None and found.shape.num_hidden_layers == 60


def test_a_model_that_cannot_be_trained_is_refused_before_a_job_is_queued(hub_cache: Path) -> None:
    download(hub_cache, "qwen3_32b", logit_softcap=30.0)
    with pytest.raises(UserError, match=r"config\.json: logit_softcap: unknown in a qwen3 model"):
        check()


def test_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_32B))
    found = starting_model(load_config(["model=qwen3_32b", "model.hub=null", f"model.folder={tmp_path}"]).model)
    assert found is not None and found.head_dim == 128


def test_ids_that_the_model_lacks_are_refused_before_a_job_is_queued(tmp_path: Path) -> None:
    """A vocabulary may have gaps: it has fewer tokens than the embedding has rows."""
    vocabulary = {"<unk>": 0, "<eos>": 1, "cheese": 151936}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": vocabulary}}
    tokenizer["model"]["unk_token"] = "<unk>"
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_32B))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<eos>"}')
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UserError, match=r"tokenizer\.json: its largest id is 151936 \('cheese'\)"):
        check("model.hub=null", f"model.folder={tmp_path}")
