"""A LoRA adapter merged into a loaded model: ``W + alpha / rank * B A``, in float32, one weight at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from msm_hpc.base.errors import UserError
from msm_hpc.model.adapter import read_note

_PREFIX = "base_model.model."
_FILE = "adapter_model.safetensors"


@torch.no_grad()
def merge_adapter(model: torch.nn.Module, folder: Path, base: Path) -> None:
    """Merge the exported adapter in ``folder`` into ``model``, which was loaded from ``base``, where it is.

    Raises:
        UserError: ``folder`` holds no adapter, it is not one of ``base``, or it cannot be read.
    """
    note = read_note(folder)
    if note is None:
        raise UserError(f"{folder} is not an exported adapter: it has no lora.json; run the export stage first")
    note.check_exported(base, folder)
    try:
        with safe_open(folder / _FILE, framework="pt", device="cpu") as stored:
            halves: set[str] = set(stored.keys())
            for name in sorted(half for half in halves if half.endswith(".lora_A.weight")):
                module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
                pair = stored.get_tensor(name), stored.get_tensor(name.replace(".lora_A.", ".lora_B."))
                _add(model.get_submodule(module).get_parameter("weight"), *pair, note.lora.alpha / note.lora.rank)
    except (OSError, SafetensorError, AttributeError, RuntimeError) as error:
        raise UserError(f"{folder / _FILE} is no adapter of the model in {base} ({error}); export it again") from error


def _add(weight: Tensor, lora_a: Tensor, lora_b: Tensor, scale: float) -> None:
    a, b = (half.to(weight.device, torch.float32) for half in (lora_a, lora_b))
    weight.copy_(torch.addmm(weight.float(), b, a, alpha=scale))
