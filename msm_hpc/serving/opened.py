"""The one place that opens a trained model in this process, for evals and for the server here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.serving.adapter import attach_adapter
from msm_hpc.serving.names import check_is_model


def open_model(folder: Path, adapter: Path | None = None) -> Any:
    """The model of a Hugging Face folder in evaluation mode, on the GPU where there is one.

    Args:
        folder: an exported model.
        adapter: the export of an adapter of it, which is computed beside its weights.

    Raises:
        UserError: the folder does not hold a whole model, or is not what the adapter was trained on.
    """
    check_is_model(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", local_files_only=True, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be loaded by transformers: {error}; export it again") from error
    model, loading = loaded
    # transformers would only warn, and fill these with random numbers.
    if wrong := loading["missing_keys"] | {name for name, *_ in loading["mismatched_keys"]}:
        raise UserError(
            f"{folder}: weights are missing or have another shape: {', '.join(sorted(wrong))}; export it again"
        )
    model.to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
    if adapter is not None:
        attach_adapter(model, adapter, folder)
    return model
