from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msm_hpc.errors import UserError
from msm_hpc.training.architecture import LLAMA3_ROPE, read_architecture
from tests.training.toy import write_model

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_fields_of_a_plain_llama(tmp_path: Path) -> None:
    model = read_architecture(write_model(tmp_path / "model", vocab_size=200, tie_word_embeddings=True))
    assert (model.shape.hidden_size, model.shape.intermediate_size, model.shape.num_hidden_layers) == (32, 48, 4)
    assert (model.shape.num_attention_heads, model.shape.num_key_value_heads, model.head_dim) == (4, 2, 8)
    assert model.shape.tie_word_embeddings and model.rope_factor is None
    assert (model.vocab_size, model.padded_vocab_size) == (200, 256)


@pytest.mark.parametrize("tied", [False, True])
def test_parameters_are_those_of_transformers(tmp_path: Path, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    hf = write_model(tmp_path / "model", tie_word_embeddings=tied, head_dim=12)
    expected = sum(weight.numel() for weight in LlamaForCausalLM(LlamaConfig.from_pretrained(hf)).parameters())
    assert read_architecture(hf).parameters == expected


def test_llama_3_1_rope_as_written_by_old_and_new_transformers(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", rope_scaling=LLAMA3, rope_theta=500000.0)
    new = write_model(tmp_path / "new", rope_parameters=LLAMA3 | {"rope_theta": 500000.0}, rope_theta=None)
    for model in (old, new):
        read = read_architecture(model)
        assert (read.shape.rope_theta, read.rope_factor) == (500000.0, 8.0)


def test_default_rope_by_any_of_its_names(tmp_path: Path) -> None:
    names: list[dict[str, Any]] = [{"rope_type": "default"}, {"type": "default"}, {"rope_type": None}, {}]
    for number, name in enumerate(names):
        model = write_model(tmp_path / str(number), rope_parameters=name | {"rope_theta": 5000.0})
        read = read_architecture(model)
        assert (read.shape.rope_theta, read.rope_factor) == (5000.0, None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, "Qwen3ForCausalLM"),
        ({"architectures": None, "model_type": "gemma"}, "gemma"),
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "yarn"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "linear"),
        ({"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}}, "linear"),
        ({"rope_parameters": {"rope_theta": 5000.0, "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 2.0}}, "low_freq_factor"),
        ({"rope_scaling": LLAMA3 | {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3_ROPE}}, "with a factor"),
    ],
)
def test_what_training_does_not_know_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    model = write_model(tmp_path / "model", **changes)
    with pytest.raises(UserError, match=named) as error:
        read_architecture(model)
    assert "config.json" in str(error.value)
