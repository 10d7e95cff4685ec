"""A LoRA adapter beside the weights of a loaded model: ``y + B (alpha / rank * A x)``, as training computes it.

It is not merged: ``W + B A`` rounded to bfloat16 loses every update below half a step of ``W``, so that what would be
scored is another model than was trained.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from msm_hpc.base.errors import UserError
from msm_hpc.model.adapter import HALVES, PEFT_WEIGHTS, in_layers, peft_shapes, read_exported
from msm_hpc.model.architecture import read_architecture


def attach_adapter(model: nn.Module, folder: Path, base: Path) -> None:
    """Have ``model``, loaded from ``base``, compute with the exported adapter in ``folder``, in the model's dtype.

    Raises:
        UserError: ``folder`` holds no adapter, it is not one of ``base``, or it cannot be read.
    """
    note = read_exported(folder, base)
    architecture = read_architecture(base)
    tensors = _read(folder / PEFT_WEIGHTS, peft_shapes(architecture, note.lora.rank), base)
    for projection, layer in in_layers(architecture):
        linear = model.get_submodule(projection.hf_module(layer))
        weight = linear.get_parameter("weight")
        lora_a, lora_b = (tensors[projection.peft_name(half, layer)].to(weight) for half in HALVES)
        linear.register_forward_hook(_adding(lora_a, lora_b, note.lora.alpha / note.lora.rank))


def _read(file: Path, shapes: dict[str, tuple[int, ...]], base: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's ``file``, which are to be those of ``shapes``."""
    try:
        with safe_open(file, framework="pt", device="cpu") as stored:
            tensors: dict[str, Tensor] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be loaded: {error}; export it again") from error
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := shapes.items() ^ found.items():
        raise UserError(
            f"{file} is no adapter of the model in {base}: tensors that are missing, too many or of another shape: "
            f"{', '.join(sorted({name for name, _ in wrong}))}; export it again"
        )
    return tensors


def _adding(lora_a: Tensor, lora_b: Tensor, scale: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that adds to the output of a projection; it rounds where :class:`training.megatron.lora.Adapter` does."""

    def add(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output + F.linear(F.linear(inputs[0], lora_a) * scale, lora_b)

    return add
