"""The files of a local Hugging Face folder that decide which model it is, and those that go with its weights.

A folder may hold the same weights in several formats, a training run's state and a README. Transformers takes
safetensors where there are any, else PyTorch's ``.bin``. Imports nothing heavy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from msm_hpc.base.errors import UserError

# config.json and the index of sharded weights; tokenizers of every kind, with their vocabularies and chat templates.
DESCRIPTION = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
LICENCES = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
_COPIED = (
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*", "merges.txt", "*.model", "*.jinja", "chat_template*", "additional_chat_templates/*.jinja"),
    *LICENCES,
)
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def model_files(folder: Path) -> list[Path]:
    """The files that decide what loading ``folder`` gives, sorted; rather one too many than one missing.

    Raises:
        UserError: there are no weights in ``folder``, or it does not exist.
    """
    weights = next((found for pattern in _WEIGHTS if (found := _matching(folder, (pattern,)))), [])
    if not weights:
        raise UserError(f"model.folder: {folder} has no weights: none of {', '.join(_WEIGHTS)}; correct the path")
    return sorted({*weights, *_matching(folder, DESCRIPTION)})


def copy_description(folder: Path, out: Path) -> None:
    """Copy all but the weights, as it is: configuration, tokenizer, templates, generation's defaults, licence."""
    for path in _matching(folder, _COPIED):
        copy = out / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
