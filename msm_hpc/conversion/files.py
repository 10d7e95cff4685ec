"""The files of a local Hugging Face folder that decide which model it is: these are hashed, and no others.

A folder may hold the same weights in several formats, a training run's state and a README. Transformers takes
safetensors where there are any, else PyTorch's ``.bin``. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.errors import UserError

# config.json and the index of sharded weights; tokenizers of every kind, with their vocabularies and chat templates.
DESCRIPTION = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def model_files(folder: Path) -> list[Path]:
    """The files that decide what loading ``folder`` gives, sorted; rather one too many than one missing.

    Raises:
        UserError: there are no weights in ``folder``, or it does not exist.
    """
    found = ([path for path in folder.glob(pattern) if path.is_file()] for pattern in _WEIGHTS)
    weights = next((paths for paths in found if paths), [])
    if not weights:
        raise UserError(f"model.folder: {folder} has no weights: none of {', '.join(_WEIGHTS)}; correct the path")
    description = [path for pattern in DESCRIPTION for path in folder.glob(pattern) if path.is_file()]
    return sorted({*weights, *description})
