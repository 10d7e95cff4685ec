"""FP8 matrix products of Megatron's linear layers, emulated on a CPU as Transformer Engine does them on a GPU.

A linear layer is three matrix products. Each takes two FP8 matrices, adds up in float32 and gives bf16::

    output = E4M3(input)  @ E4M3(weight).T
    dinput = E5M2(doutput) @ E4M3(weight)
    dweight = E5M2(doutput).T @ E4M3(input)

where ``E4M3(x)`` is ``round(x * scale)``, and the product is divided by both scales again. The scale of a tensor takes
its largest magnitude (its *amax*) to the largest FP8 number. *Tensorwise* (current) scaling looks for the amax first,
then rounds. *Delayed* scaling rounds with a scale from the amaxes of earlier micro-batches, and notes the new one::

    micro-batch   1          2          3
    scale         1          448/a1     448/max(a1, a2)
    amax noted    a1         a2         a3

The noted amaxes are made equal over tensor- and data-parallel ranks once a micro-batch: those of inputs and weights
when the decoder has run forwards, those of output gradients when it has run backwards.

What is not emulated: the order in which a GPU adds up (a tensor core's accumulator is narrower than float32), and the
norm that Transformer Engine fuses with the cast of its output, sparing one rounding to bf16 in delayed scaling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from megatron.core import parallel_state
from megatron.core.fp8_utils import is_first_last_bf16_layer
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, distributed

from msm_hpc.training.megatron import private

FORWARD, BACKWARD = torch.float8_e4m3fn, torch.float8_e5m2


@dataclass(frozen=True)
class Quantised:
    """``data`` (FP8) times ``inverse`` (float32, [1]) is about the tensor that was quantised."""

    data: Tensor
    inverse: Tensor


class Quantiser(Protocol):
    """Rounds tensors of one role to FP8."""

    def __call__(self, tensor: Tensor) -> Quantised:
        """Round ``tensor``, a bf16 matrix."""


class CurrentScaling:
    """Scale from the tensor at hand, as ``custom_recipes/quantization_current_scaling.py`` of Transformer Engine."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, tensor: Tensor) -> Quantised:
        """Round ``tensor``; a scale that overflows becomes the largest number of its dtype, that of all zeros 1."""
        amax = _amax(tensor)
        scale = torch.div(torch.finfo(self.dtype).max, amax)
        scale = torch.where(scale.isinf(), torch.finfo(tensor.dtype).max, scale)
        return _round(tensor, torch.where(amax == 0, 1.0, scale), self.dtype)


class DelayedScaling:
    """Scale from the largest amax of the last ``length`` micro-batches (Transformer Engine, ``quantization.py``).

    ``state`` (float32, [1 + length]) holds the scale and the amaxes; ``state[1]`` is noted in while a micro-batch runs.
    """

    def __init__(self, dtype: torch.dtype, length: int) -> None:
        self.dtype = dtype
        self.state = torch.zeros(1 + length)
        self.state[0] = 1.0

    def __call__(self, tensor: Tensor) -> Quantised:
        """Round ``tensor`` with the current scale, and note its amax."""
        torch.maximum(self.noted, _amax(tensor), out=self.noted)
        return _round(tensor, self.state[:1], self.dtype)

    @property
    def noted(self) -> Tensor:
        """The largest amax since the last :meth:`update`, [1]."""
        return self.state[1:2]

    def update(self) -> None:
        """Compute a new scale, of at most the largest float32; it stays where the amax is 0 or not finite."""
        scale, history = self.state[0], self.state[1:]
        amax = history.max()
        # As in the reference: a reciprocal and a product to torch, which may be 1 ulp from torch.div's result.
        new = (torch.finfo(self.dtype).max / amax).clamp(max=torch.finfo(torch.float32).max)
        scale.copy_(torch.where((amax > 0) & amax.isfinite(), new, scale))
        history.copy_(history.roll(-1))
        history[0] = 0.0


def _amax(tensor: Tensor) -> Tensor:
    return tensor.detach().abs().amax().float().view(1)


def _round(tensor: Tensor, scale: Tensor, dtype: torch.dtype) -> Quantised:
    largest = torch.finfo(dtype).max
    scaled = (tensor.float() * scale).clamp(-largest, largest)  # torch's E5M2 overflows where a GPU's saturates
    return Quantised(scaled.to(dtype), scale.reciprocal())


class _Product(torch.autograd.Function):
    """``input @ weight.T + bias`` by the three products above."""

    @staticmethod
    def forward(
        ctx: Any,
        input_: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        quantised: tuple[Quantised, Quantised],
        backward: Callable[[Tensor], Quantised],
    ) -> Tensor:
        left, right = quantised
        ctx.save_for_backward(left.data, left.inverse, right.data, right.inverse)
        ctx.shape, ctx.backward, ctx.biased = input_.shape, backward, bias is not None
        return _matmul(left, right, bias).view(*input_.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        data, inverse, weight, weight_inverse = ctx.saved_tensors
        gradient = gradient.reshape(-1, gradient.shape[-1])
        quantised = ctx.backward(gradient)
        dinput = _matmul(quantised, Quantised(weight.t(), weight_inverse))
        dweight = _matmul(Quantised(quantised.data.t(), quantised.inverse), Quantised(data.t(), inverse))
        return dinput.view(ctx.shape), dweight, gradient.sum(0) if ctx.biased else None, None, None


def _matmul(left: Quantised, right: Quantised, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias`` in bf16."""
    product: Tensor = torch._scaled_mm(
        left.data.contiguous(),
        right.data.contiguous().t(),
        scale_a=left.inverse,
        scale_b=right.inverse,
        bias=bias,
        out_dtype=torch.bfloat16,
    )
    return product


class _Emulated(private.LinearProduct):
    """A parallel linear layer of Megatron with products in FP8.

    ``is_first_microbatch`` is set by Megatron's schedules at every step, as for Transformer Engine's layers: weights
    are quantised then, and kept for the other micro-batches of the step.
    """

    config: TransformerConfig
    after_backward: Callable[[], None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.quantisers = _quantisers(self.config)
        self.is_first_microbatch = True

    def product(self, input_: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product in FP8.

        Under sequence parallelism Transformer Engine quantises each rank's tokens by the amax over ranks and gathers
        FP8; here the gathered tokens are quantised, which gives the same numbers.
        """
        of_input, of_weight, _ = self.quantisers
        if self.is_first_microbatch:
            self.quantised_weight = of_weight(weight.detach())
            self.is_first_microbatch = False
        quantised_input = of_input(input_.detach().reshape(-1, input_.shape[-1]))
        quantised = (quantised_input, self.quantised_weight)
        output: Tensor = _Product.apply(input_, weight, bias, quantised, self._gradient)  # type: ignore[no-untyped-call]
        return output

    def _gradient(self, gradient: Tensor) -> Quantised:
        quantised = self.quantisers[2](gradient)
        if self.after_backward is not None:
            self.after_backward()
        return quantised

    def get_extra_state(self) -> Tensor | None:
        """Scales and amaxes of delayed scaling, [3, 1 + history]: part of a resume checkpoint, not of the weights."""
        delayed = _delayed(self.quantisers)
        return torch.stack([quantiser.state for quantiser in delayed]) if delayed else None

    def set_extra_state(self, state: Tensor | None) -> None:
        """Restore what :meth:`get_extra_state` returned; None, of a checkpoint of weights, changes nothing."""
        if state is not None:
            for quantiser, saved in zip(_delayed(self.quantisers), state, strict=True):
                quantiser.state.copy_(saved)


class EmulatedColumnParallelLinear(_Emulated, ColumnParallelLinear):  # type: ignore[misc]
    """Megatron's ``ColumnParallelLinear`` in emulated FP8."""


class EmulatedRowParallelLinear(_Emulated, RowParallelLinear):  # type: ignore[misc]
    """Megatron's ``RowParallelLinear`` in emulated FP8."""


def _quantisers(config: TransformerConfig) -> tuple[Quantiser, Quantiser, Quantiser]:
    """Of input, weight and output gradient."""
    if config.fp8_recipe == "tensorwise":
        return CurrentScaling(FORWARD), CurrentScaling(FORWARD), CurrentScaling(BACKWARD)
    assert config.fp8_recipe == "delayed" and config.fp8_amax_compute_algo == "max" and config.fp8_margin == 0
    length = config.fp8_amax_history_len
    return DelayedScaling(FORWARD, length), DelayedScaling(FORWARD, length), DelayedScaling(BACKWARD, length)


def _delayed(quantisers: Sequence[Quantiser]) -> list[DelayedScaling]:
    return [quantiser for quantiser in quantisers if isinstance(quantiser, DelayedScaling)]


def emulated_layer(config: TransformerConfig, layer: ModuleSpec, number: int) -> ModuleSpec:
    """Layer ``number`` (from 0, of the whole model) as ``layer``, a spec of Megatron's own layers, but in FP8.

    The first and last layers of a recipe that keeps them in bf16 are returned as they are.
    """
    if is_first_last_bf16_layer(config, number):
        return layer
    attention, mlp = layer.submodules.self_attention, layer.submodules.mlp
    linears = {ColumnParallelLinear: EmulatedColumnParallelLinear, RowParallelLinear: EmulatedRowParallelLinear}
    parts = {
        "self_attention": _replaced(
            attention,
            linear_qkv=linears[attention.submodules.linear_qkv],
            linear_proj=linears[attention.submodules.linear_proj],
        ),
        "mlp": _replaced(
            mlp, linear_fc1=linears[mlp.submodules.linear_fc1], linear_fc2=linears[mlp.submodules.linear_fc2]
        ),
    }
    return _replaced(layer, **parts)


def _replaced(spec: ModuleSpec, **parts: Any) -> ModuleSpec:
    return dataclasses.replace(spec, submodules=dataclasses.replace(spec.submodules, **parts))


def connect(model: GPTModel) -> None:
    """Have delayed scales updated as ``model`` runs, over the ranks that share them.

    As in Transformer Engine's ``autocast``: in the forward pass when the decoder ends, if there will be a backward
    pass; in the backward pass when the first FP8 layer of the decoder, the last to run, has its gradient.
    """
    layers = [module for module in model.decoder.modules() if isinstance(module, _Emulated)]
    inputs_and_weights = [quantiser for layer in layers for quantiser in _delayed(layer.quantisers[:2])]
    gradients = [quantiser for layer in layers for quantiser in _delayed(layer.quantisers[2:])]
    if not gradients:
        return
    assert model.config.recompute_granularity is None, "a forward pass that runs twice would note its amaxes twice"
    group = parallel_state.get_amax_reduction_group(True, model.config.tp_only_amax_red)

    def after_forward(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            _update(inputs_and_weights, group)

    model.decoder.register_forward_hook(after_forward)
    # The first to run forwards; Megatron registers the output projection of attention before it.
    first = model.decoder.layers[0].self_attention.linear_qkv
    first.after_backward = partial(_update, gradients, group)


def _update(quantisers: Sequence[DelayedScaling], group: distributed.ProcessGroup) -> None:
    """Take the largest noted amaxes over the ranks of ``group``, then update all scales."""
    noted = torch.cat([quantiser.noted for quantiser in quantisers])
    distributed.all_reduce(noted, op=distributed.ReduceOp.MAX, group=group)
    for quantiser, amax in zip(quantisers, noted, strict=True):
        quantiser.noted.copy_(amax)
        quantiser.update()
