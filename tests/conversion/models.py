"""Small random models of each family with a tokenizer, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from msm_hpc.config.stages import ExportConfig, ExportInputs, ModelConfig, ModelInputs
from msm_hpc.conversion import stage

TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
# Grouped-query attention; a vocabulary that is not a multiple of 128; Qwen3's heads are wider than hidden / heads.
FIELDS: dict[str, Any] = {
    "vocab_size": 203,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
FAMILY_FIELDS: dict[str, dict[str, Any]] = {"llama": {}, "qwen2": {}, "qwen3": {"head_dim": 16}}


def make_tokenizer(folder: Path, words: int = 200) -> Path:
    """A word-level tokenizer of ``words`` words beside its special tokens, saved into ``folder``."""
    vocabulary = ["<unk>", "<pad>", "<eos>", *(f"word{i}" for i in range(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder


def make_model(
    folder: Path, family: str = "llama", dtype: torch.dtype = torch.float32, shard: str = "5GB", **changes: Any
) -> Path:
    """A model of ``family`` (a ``model_type``) with :data:`FIELDS` and ``changes``, saved into ``folder``."""
    fields = {**FIELDS, **FAMILY_FIELDS[family], "dtype": dtype, **changes}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **fields))
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name else 0.0, std=0.2)
        parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder, max_shard_size=shard)
    return make_tokenizer(folder)


FP32 = ExportConfig(dtype="float32")
BF16 = ExportConfig(dtype="bfloat16")
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama tied": {"tie_word_embeddings": True},
    "llama wide heads": {"head_dim": 16},
    "llama no groups": {"num_key_value_heads": 4},
    "llama vocabulary of 256": {"vocab_size": 256},
    "llama 3.1": {"rope_parameters": LLAMA3},
    "qwen2": {"family": "qwen2"},
    "qwen2 tied": {"family": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"family": "qwen3"},
    "qwen3 tied": {"family": "qwen3", "tie_word_embeddings": True},
}


def import_model(source: Path, out: Path) -> Path:
    out.mkdir()
    stage.run_model(ModelConfig(name="test", folder=source), ModelInputs(weights=source), out)
    return out


def export(model: Path, out: Path, config: ExportConfig = FP32) -> Path:
    out.mkdir()
    stage.run_export(config, ExportInputs(model=model, checkpoint=model), out)
    return out


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def hf_logits(folder: Path, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = AutoModelForCausalLM.from_pretrained(folder)(tokens[None]).logits[0]
    return logits
