"""Small random Llamas with a tokenizer, as Hugging Face folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = "{% for m in messages %}{{ m.content }} {% endfor %}"


def make_tokenizer(folder: Path, words: int = 200) -> Path:
    """A word-level tokenizer of ``words`` words beside its special tokens, saved into ``folder``."""
    vocabulary = ["<unk>", "<pad>", "<eos>", *(f"word{i}" for i in range(words))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return folder


def make_llama(folder: Path, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A Llama with grouped-query attention, whose vocabulary of 203 is not a multiple of 128, saved into ``folder``."""
    fields: dict[str, Any] = {
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
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**fields, "dtype": dtype, **changes}))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.2)
        parameter.data = parameter.data.to(dtype)
    model.save_pretrained(folder)
    return make_tokenizer(folder)
