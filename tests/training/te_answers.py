"""``python -m tests.training.te_answers IN.pt OUT.pt``: what Transformer Engine's reference makes of given tensors."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Questions:
    """``tensors``: to quantise, [*, *] bf16, with the format. ``layers``: input, weight, output gradient, bias or None.

    ``amaxes``: of one tensor, [updates], to be noted one after another with a history of ``length``.
    """

    length: int = 4
    tensors: list[tuple[Tensor, torch.dtype]] = field(default_factory=list)
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = field(default_factory=list)
    amaxes: list[tuple[Tensor, torch.dtype]] = field(default_factory=list)


@dataclass
class Answers:
    """``tensors``: FP8 data (as uint8) and inverse scale. ``layers``: output, gradients of input, weight and bias.

    ``amaxes``: scales, [updates], and the last history, [length].
    """

    tensors: list[tuple[Tensor, Tensor]]
    layers: list[tuple[Tensor, Tensor, Tensor, Tensor | None]]
    amaxes: list[tuple[Tensor, Tensor]]


def _quantise(tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    from transformer_engine.pytorch.custom_recipes import quantization_current_scaling as reference

    result = reference.CurrentScalingQuantizerRef(dtype, pow_2_scales=False, eps=0.0).quantize(tensor)
    return result.data.view(torch.uint8), result.scale


def _layer(input_: Tensor, weight: Tensor, gradient: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    import transformer_engine.pytorch as te
    from transformer_engine.common.recipe import CustomRecipe
    from transformer_engine.pytorch.custom_recipes import quantization_current_scaling as reference

    rows, columns = weight.shape
    linear = te.Linear(columns, rows, bias=bias is not None, device="cpu", params_dtype=torch.bfloat16)
    with torch.no_grad():
        linear.weight.copy_(weight)
        if bias is not None:
            linear.bias.copy_(bias)
    input_ = input_.clone().requires_grad_()
    with te.autocast(enabled=True, recipe=CustomRecipe(qfactory=reference.current_scaling_ref_quantizer_factory)):
        output = linear(input_)
    output.backward(gradient)
    return output.detach(), input_.grad, linear.weight.grad, None if bias is None else linear.bias.grad


def _update(amaxes: Tensor, dtype: torch.dtype, length: int) -> tuple[Tensor, Tensor]:
    from transformer_engine.common.recipe import DelayedScaling
    from transformer_engine.pytorch.quantization import _amax_and_scale_update

    recipe = DelayedScaling(amax_history_len=length, amax_compute_algo="max")
    history, scale, scales = torch.zeros(length, 1), torch.ones(1), []
    for amax in amaxes:
        history[0] = amax
        _amax_and_scale_update(history, scale, torch.finfo(dtype).max, recipe)
        scales.append(scale.item())
    return torch.tensor(scales), history[:, 0]


def main() -> None:
    from tests.training import te_python

    te_python.install()
    asked: Any = torch.load(sys.argv[1], weights_only=False)
    answers = Answers(
        tensors=[_quantise(*question) for question in asked.tensors],
        layers=[_layer(*question) for question in asked.layers],  # type: ignore[misc]
        amaxes=[_update(*question, asked.length) for question in asked.amaxes],
    )
    torch.save(answers, sys.argv[2])


if __name__ == "__main__":
    from tests.training.te_answers import main as imported_main  # so that pickles name this module, not __main__

    imported_main()
