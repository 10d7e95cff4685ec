"""A small Hugging Face model with random weights, of any family, for rehearsals."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from msm_hpc.base.files import write_json
from msm_hpc.conversion.weights import write_weights
from msm_hpc.model.architecture import Transformer, config_fields

SEED = 0
NAME_DIGITS = 12


def random_model(model: Transformer, tokenizer: PreTrainedTokenizerBase, parent: Path) -> Path:
    """A folder in ``parent`` with random bf16 weights for ``model`` and with ``tokenizer``.

    It is named by a hash of the model and of the tokenizer's vocabulary, and written once.
    """
    fields = config_fields(model)
    decides = json.dumps([fields, tokenizer.get_vocab(), tokenizer.chat_template], sort_keys=True)
    folder = parent / hashlib.sha256(decides.encode()).hexdigest()[:NAME_DIGITS]
    if folder.exists():
        return folder
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".random.") as temporary:
        whole = Path(temporary) / "model"
        whole.mkdir()
        tokenizer.save_pretrained(whole)
        _write_random_weights(fields, whole)
        os.replace(whole, folder)
    return folder


def _write_random_weights(fields: dict[str, Any], out: Path) -> None:
    write_json(out / "config.json", fields)
    build: Any = AutoModelForCausalLM.from_config
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        model = build(AutoConfig.from_pretrained(out), dtype=torch.bfloat16)
    weights = {name: parameter.data for name, parameter in model.named_parameters()}
    write_weights(out, {name: tuple(w.shape) for name, w in weights.items()}, torch.bfloat16, weights.items())
