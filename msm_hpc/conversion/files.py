"""The files of a local Hugging Face folder that decide which model it is, and those that go with its weights.

A folder may hold the same weights in several formats, a training run's state and a README. Transformers takes
safetensors where there are any, else PyTorch's ``.bin``. Imports nothing heavy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.model.adapter import PEFT_CONFIG
from msm_hpc.model.architecture import read_object

# config.json and the index of sharded weights; tokenizers of every kind, with their vocabularies and chat templates.
DESCRIPTION = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
LICENCES = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
_COPIED = (
    *("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json"),
    *("vocab*", "merges.txt", "*.model", "*.jinja", "chat_template*", "additional_chat_templates/*.jinja"),
    *LICENCES,
)
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")

HUB = "hub.json"
"""In a model step's output: the name and revision of a model from the hub, where an adapter's base is looked for."""


def model_files(folder: Path) -> list[Path]:
    """The files that decide what loading ``folder`` gives, sorted; rather one too many than one missing.

    Raises:
        UserError: there are no weights in ``folder``, it holds an adapter alone, or it does not exist.
    """
    refuse_adapter(folder)
    weights = next((found for pattern in _WEIGHTS if (found := _matching(folder, (pattern,)))), [])
    if not weights:
        raise UserError(f"model.folder: {folder} has no weights: none of {', '.join(_WEIGHTS)}; correct the path")
    return sorted({*weights, *_matching(folder, DESCRIPTION)})


def has_weights(folder: Path) -> bool:
    """Whether there are weights in ``folder``, of a model or an adapter."""
    return bool(_matching(folder, _WEIGHTS))


def refuse_adapter(folder: Path) -> None:
    """Refuse a folder with an adapter of PEFT's in the place of a model.

    Raises:
        UserError: it is one, or its description is damaged; with its base, and how to merge the two.
    """
    described = folder / PEFT_CONFIG
    whole = (path for pattern in _WEIGHTS for path in folder.glob(pattern) if not path.name.startswith("adapter_"))
    if not described.is_file() or next(whole, None):
        return
    base = read_object(described).get("base_model_name_or_path") or "its base"
    raise UserError(
        f"{folder} holds an adapter of {base}, not a model: merge the two, and give the merged folder as model.folder: "
        f"python -c \"from peft import AutoPeftModelForCausalLM as M; M.from_pretrained('{folder}').merge_and_unload()"
        f".save_pretrained('MERGED')\", with the tokenizer of {base} beside it"
    )


def copy_description(folder: Path, out: Path) -> None:
    """Copy all but the weights, as it is: configuration, tokenizer, templates, generation's defaults, licence."""
    for path in _matching(folder, _COPIED):
        copy = out / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copy)


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern) if path.is_file()]
