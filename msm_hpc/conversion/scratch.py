"""The Hugging Face description of a model made from scratch (a Llama), without weights.

Training initialises the weights, so that they depend on the training seed.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from transformers import AutoTokenizer, LlamaConfig

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import Architecture

_NEEDED = ("tokenizer.json", "tokenizer_config.json")
_OPTIONAL = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


def describe_scratch(architecture: Architecture, tokenizer: Path, out: Path) -> None:
    """Write ``config.json`` into ``out``, and copy the tokenizer's files there, so that their hashes stay the same.

    Raises:
        UserError: ``tokenizer`` is not a tokenizer with an end-of-text token.
    """
    _copy_tokenizer(tokenizer, out)
    loaded = AutoTokenizer.from_pretrained(out, local_files_only=True)
    if loaded.eos_token_id is None:
        raise UserError(f"{tokenizer}/tokenizer_config.json: eos_token: missing; add it, every document ends with it")
    fields = asdict(architecture)
    config = LlamaConfig(
        vocab_size=len(loaded),
        rope_parameters={"rope_type": "default", "rope_theta": fields.pop("rope_theta")},
        bos_token_id=loaded.bos_token_id,
        eos_token_id=loaded.eos_token_id,
        pad_token_id=loaded.pad_token_id,
        architectures=["LlamaForCausalLM"],
        dtype="float32",
        **fields,
    )
    config.save_pretrained(out)


def _copy_tokenizer(tokenizer: Path, out: Path) -> None:
    for name in _NEEDED:
        if not (tokenizer / name).is_file():
            raise UserError(f"{tokenizer} is not a Hugging Face tokenizer: it has no {name}")
    for name in (*_NEEDED, *_OPTIONAL):
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, out / name)
