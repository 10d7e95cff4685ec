"""Emulated FP8 on two tensor-parallel ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from msm_hpc.config.training import Layout
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.megatron.groups import process_groups
from tokenization.packing.plan import Plan
from tokenization.shards import Shard

LENGTH, STEPS, MICRO_BATCHES, TOKENS = 4, 3, 2, 32


@dataclass
class Layer:
    """What one rank saw of a linear layer in tensorwise scaling: its own input, output and gradients."""

    kind: str
    sequence_parallel: bool
    weight: Tensor
    output: Tensor
    input_gradient: Tensor
    weight_gradient: Tensor


@dataclass
class Delayed:
    """One quantiser of delayed scaling: amaxes noted on this rank before each update; scale and history at the end."""

    dtype: torch.dtype
    noted: list[float]
    state: Tensor


@dataclass
class Seen:
    """Of one rank."""

    layers: list[Layer]
    delayed: list[Delayed]


def tensor(seed: int, *shape: int) -> Tensor:
    """Some numbers, of very different sizes from row to row."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * torch.logspace(-3, 1, shape[0])[:, None]).bfloat16()


def _layer(kind: str, layout: Layout, model: Any) -> Layer:
    from msm_hpc.training.megatron import fp8
    from msm_hpc.training.megatron.model import transformer_config

    config = transformer_config(model, layout, "fp8_tensorwise")
    rank = distributed.get_rank()
    common = {"config": config, "init_method": torch.nn.init.zeros_, "bias": False, "skip_bias_add": False}
    if kind == "column":
        linear = fp8.EmulatedColumnParallelLinear(64, 96, gather_output=False, **common)
        weight = tensor(1, 96, 64).chunk(2)[rank]
        input_, gradient = tensor(2, TOKENS, 64), tensor(3, TOKENS, 96).chunk(2, dim=1)[rank]
        input_ = input_.chunk(2)[rank] if layout.sequence_parallel else input_
    else:
        linear = fp8.EmulatedRowParallelLinear(64, 96, input_is_parallel=True, **common)
        weight = tensor(1, 96, 64).chunk(2, dim=1)[rank]
        input_, gradient = tensor(2, TOKENS, 64).chunk(2, dim=1)[rank], tensor(3, TOKENS, 96)
        gradient = gradient.chunk(2)[rank] if layout.sequence_parallel else gradient
    with torch.no_grad():
        linear.weight.copy_(weight)
    input_ = input_.unsqueeze(1).contiguous().requires_grad_()
    output, _ = linear(input_)
    output.backward(gradient.unsqueeze(1).contiguous())
    assert input_.grad is not None
    results = (output.detach().squeeze(1), input_.grad.squeeze(1), linear.weight.grad)
    return Layer(kind, layout.sequence_parallel, weight, *results)


def _delayed(layout: Layout, model: Any, inputs: Path) -> list[Delayed]:
    """Train a little and write down each amax where it is made."""
    from msm_hpc.training.checkpoints.initial import initialise
    from msm_hpc.training.data.batch import micro_batch
    from msm_hpc.training.megatron import fp8
    from msm_hpc.training.megatron.model import build_model, transformer_config
    from msm_hpc.training.step import token_losses

    noted: dict[int, list[float]] = {}
    round_, update = fp8.DelayedScaling.__call__, fp8.DelayedScaling.update

    def spy(self: Any, tensor: Tensor) -> Any:
        noted.setdefault(id(self), [0.0])[-1] = float(tensor.abs().max())
        return round_(self, tensor)

    def spy_update(self: Any) -> None:
        noted[id(self)].append(0.0)
        update(self)

    fp8.DelayedScaling.__call__, fp8.DelayedScaling.update = spy, spy_update  # type: ignore[method-assign]
    config = transformer_config(model, layout, "fp8_delayed")
    config.fp8_amax_history_len = LENGTH
    (part,) = chunks = build_model(model, config)
    initialise(chunks, 0)
    plan, shards = Plan(inputs / "plan"), {"chats/0": Shard(inputs / "shard")}
    for step in range(STEPS):
        part.set_is_first_microbatch()
        for number in range(MICRO_BATCHES):
            batch = micro_batch(plan, shards, [step * MICRO_BATCHES + number])
            (token_losses(part, batch).float().sum() * 10**step).backward()
        with torch.no_grad():
            for parameter in part.parameters():
                parameter -= 0.01 * parameter.grad.sign()
                parameter.grad = None
    layers = [module for module in part.modules() if isinstance(module, fp8.EmulatedColumnParallelLinear)]
    layers += [module for module in part.modules() if isinstance(module, fp8.EmulatedRowParallelLinear)]
    quantisers = [quantiser for layer in layers for quantiser in layer.quantisers]
    return [Delayed(each.dtype, noted[id(each)][:-1], each.state) for each in quantisers]


def look(folder: str) -> None:
    """As one of two ranks; what both saw goes to ``seen.pt`` beside the inputs of ``toy.write_inputs``."""
    inputs = Path(folder)
    model = read_architecture(inputs / "model")
    layouts = [Layout(tensor_parallel=2, sequence_parallel=sequence) for sequence in (False, True)]
    with process_groups(layouts[0]):
        layers = [_layer(kind, layout, model) for kind in ("column", "row") for layout in layouts]
        everything: list[Any] = [None, None]
        distributed.all_gather_object(everything, Seen(layers, _delayed(layouts[0], model, inputs)))
        if distributed.get_rank() == 0:
            torch.save(everything, inputs / "seen.pt")
