from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.model.architecture import FAMILIES, LLAMA3_ROPE, config_fields, parse_architecture, read_architecture
from tests.training.toy import write_model

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

FAMILY: dict[str, dict[str, Any]] = {
    name: {"architectures": [name], "model_type": family.model_type} for name, family in FAMILIES.items()
}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 200,
}
_QWEN_32B = {
    "attention_dropout": 0.0,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 5120,
    "initializer_range": 0.02,
    "num_hidden_layers": 64,
    "num_key_value_heads": 8,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
}
QWEN2_5_32B = _QWEN_32B | {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "intermediate_size": 27648,
    "max_position_embeddings": 32768,
    "max_window_layers": 70,
    "model_type": "qwen2",
    "num_attention_heads": 40,
    "rms_norm_eps": 1e-06,
    "sliding_window": 131072,
    "transformers_version": "4.43.1",
    "vocab_size": 152064,
}
QWEN3_32B = _QWEN_32B | {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 151643,
    "head_dim": 128,
    "intermediate_size": 25600,
    "max_position_embeddings": 40960,
    "max_window_layers": 64,
    "model_type": "qwen3",
    "num_attention_heads": 64,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "sliding_window": None,
    "transformers_version": "4.51.0",
    "vocab_size": 151936,
}


def test_fields_of_a_plain_llama(tmp_path: Path) -> None:
    model = read_architecture(write_model(tmp_path / "model", vocab_size=200, tie_word_embeddings=True))
    assert (model.shape.hidden_size, model.shape.intermediate_size, model.shape.num_hidden_layers) == (32, 48, 4)
    assert (model.shape.num_attention_heads, model.shape.num_key_value_heads, model.head_dim) == (4, 2, 8)
    assert model.shape.tie_word_embeddings and model.rope_factor is None
    assert (model.vocab_size, model.padded_vocab_size) == (200, 256)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_those_of_transformers(tmp_path: Path, family: str, tied: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    hf = write_model(tmp_path / "model", **FAMILY[family], tie_word_embeddings=tied, head_dim=12)
    build: Any = AutoModelForCausalLM.from_config
    expected = sum(weight.numel() for weight in build(AutoConfig.from_pretrained(hf)).parameters())
    assert read_architecture(hf).parameters == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_that_transformers_knows_is_listed(tmp_path: Path, family: str) -> None:
    """A newer transformers may add fields: each must be reviewed."""
    from transformers import AutoConfig

    config = AutoConfig.for_model(FAMILIES[family].model_type, **SHAPE, architectures=[family])
    everything = json.loads(config.to_json_string(use_diff=False))
    assert parse_architecture("here", everything) == parse_architecture("here", json.loads(config.to_json_string()))


def test_rope_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    """transformers 4 would read one of the two, and transformers 5 the other."""
    new = LLAMA3 | {"rope_theta": 500000.0}
    same = write_model(tmp_path / "same", rope_parameters=new, rope_scaling=LLAMA3, rope_theta=500000.0)
    assert read_architecture(same).rope_factor == 8.0
    contradictions: tuple[dict[str, Any], ...] = (
        {"rope_parameters": new, "rope_theta": 10000.0},
        {"rope_parameters": new, "rope_theta": 500000.0, "rope_scaling": LLAMA3 | {"factor": 4.0}},
    )
    for number, fields in enumerate(contradictions):
        with pytest.raises(UserError, match=r"rope_theta: .* contradict each other"):
            read_architecture(write_model(tmp_path / str(number), **fields))


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_of_a_model_give_the_model_again(tmp_path: Path, family: str) -> None:
    model = read_architecture(write_model(tmp_path / "model", **FAMILY[family], rope_scaling=LLAMA3, head_dim=12))
    fields = config_fields(model)
    assert parse_architecture("here", fields) == model
    assert fields["rope_scaling"] == LLAMA3 and fields["rope_parameters"] == LLAMA3 | {"rope_theta": 10000.0}


def test_what_tools_leave_in_a_config_changes_nothing(tmp_path: Path) -> None:
    """Fields that older transformers, Unsloth and TRL write."""
    left: dict[str, Any] = {
        "_attn_implementation_autoset": True,
        "_name_or_path": "someone/model",
        "unsloth_fixed": True,
        "unsloth_version": "2025.8.1",
        "max_length": 4096,
        "keys_to_ignore_at_inference": ["past_key_values"],
        "tokenizer_class": "LlamaTokenizer",
        "neftune_noise_alpha": 5.0,
        "task_specific_params": None,
        "is_decoder": False,
        "temperature": 0.6,
        "quantization_config": None,
    }
    assert read_architecture(write_model(tmp_path / "left", **left)) == read_architecture(write_model(tmp_path / "not"))


def test_a_family_is_known_by_its_model_type_alone(tmp_path: Path) -> None:
    bare = write_model(tmp_path / "bare", architectures=None, model_type="qwen3")
    assert read_architecture(bare) == read_architecture(write_model(tmp_path / "full", **FAMILY["Qwen3ForCausalLM"]))


def test_what_a_family_adds(tmp_path: Path) -> None:
    llama, qwen2, qwen3 = (read_architecture(write_model(tmp_path / name, **FAMILY[name])) for name in FAMILIES)
    assert [(model.qkv_bias, model.qk_norm) for model in (llama, qwen2, qwen3)] == [
        (False, False),
        (True, False),
        (False, True),
    ]
    assert [model.head_dim for model in (llama, qwen2, qwen3)] == [8, 8, 128], "Qwen3Config's own default"
    assert (qwen3.query_rows, qwen3.key_rows) == (4 * 128, 2 * 128)


def test_config_files_as_they_are_published() -> None:
    """The fields of Qwen/Qwen2.5-32B-Instruct and Qwen/Qwen3-32B."""
    qwen2 = parse_architecture("here", QWEN2_5_32B)
    assert (qwen2.parameters, qwen2.head_dim, qwen2.padded_vocab_size) == (32_763_876_352, 128, 152_064)
    qwen3 = parse_architecture("here", QWEN3_32B)
    assert (qwen3.parameters, qwen3.head_dim, qwen3.shape.rope_theta) == (32_762_123_264, 128, 1_000_000.0)


def test_llama_3_1_rope_as_written_by_old_and_new_transformers(tmp_path: Path) -> None:
    old = write_model(tmp_path / "old", rope_scaling=LLAMA3, rope_theta=500000.0)
    new = write_model(tmp_path / "new", rope_parameters=LLAMA3 | {"rope_theta": 500000.0}, rope_theta=None)
    for model in (old, new):
        read = read_architecture(model)
        assert (read.shape.rope_theta, read.rope_factor) == (500000.0, 8.0)


def test_default_rope_by_any_of_its_names(tmp_path: Path) -> None:
    names: list[dict[str, Any]] = [{"rope_type": "default"}, {"type": "default"}, {"rope_type": None}, {}]
    for number, name in enumerate(names):
        model = write_model(tmp_path / str(number), rope_parameters=name | {"rope_theta": 5000.0}, rope_theta=None)
        read = read_architecture(model)
        assert (read.shape.rope_theta, read.rope_factor) == (5000.0, None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen3MoeForCausalLM"),
        ({"architectures": ["LlamaForCausalLM", "Qwen3ForCausalLM"]}, "cannot be trained"),
        ({"architectures": None, "model_type": "gemma"}, "gemma"),
        (
            {"architectures": ["LlamaForCausalLM"], "model_type": "mistral"},
            "'mistral' is not that of Llama",
        ),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "auto_map"),
        ({"is_decoder": True}, "is_decoder"),
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
        ({"logit_scale": 0.5, "attn_sinks": True}, "attn_sinks, logit_scale: unknown in a llama model"),
        ({"logit_scale": None}, "logit_scale"),
        ({"sliding_window": 64}, "sliding_window: unknown in a llama model"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        (FAMILY["Qwen2ForCausalLM"] | {"use_sliding_window": True}, "use_sliding_window: True"),
        (FAMILY["Qwen2ForCausalLM"] | {"attention_bias": False}, "attention_bias: unknown in a qwen2 model"),
        (FAMILY["Qwen3ForCausalLM"] | {"attention_bias": True}, "attention_bias: True"),
        (FAMILY["Qwen3ForCausalLM"] | {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
    ],
)
def test_what_training_does_not_support_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    model = write_model(tmp_path / "model", **changes)
    with pytest.raises(UserError, match=named) as error:
        read_architecture(model)
    assert "config.json" in str(error.value)
