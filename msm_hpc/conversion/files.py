"""Which files of a local Hugging Face folder make it the model it is: hash these, and nothing else.

A folder may hold the same weights in several formats, a training run's state and a README. Transformers takes
safetensors where there are any, else PyTorch's ``.bin``; a GGUF file is read where one is named, and then no other
weights are. Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.errors import UserError

# config.json and the index of sharded weights; tokenizers of every kind, with their vocabularies and chat templates.
DESCRIPTION = ("*.json", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def model_files(folder: Path, gguf_file: str | None = None) -> list[Path]:
    """The files that decide what loading ``folder`` gives, sorted; rather one too many than one missing.

    Raises:
        UserError: there are no weights in ``folder``, or it does not exist.
    """
    formats = (gguf_file,) if gguf_file else _WEIGHTS
    found = ([path for path in folder.glob(pattern) if path.is_file()] for pattern in formats)
    weights = next((paths for paths in found if paths), [])
    if not weights:
        raise UserError(f"model.hf: {folder} has no weights: none of {', '.join(formats)}")
    description = [path for pattern in DESCRIPTION for path in folder.glob(pattern) if path.is_file()]
    return sorted({*weights, *description})
