"""LoRA on Megatron's tensor-parallel layers: which rank holds what, and where sums over ranks are due.

Take two tensor-parallel ranks (T tokens, hidden size H, rank r). A *column-parallel* layer (queries, keys and values;
gate and up) gives each rank half of the output rows for all tokens; a *row-parallel* one (the projections back to the
residual stream) takes half of the input columns from each rank and sums over ranks. The adapter of either is cut the
same way, and what ranks exchange is only r wide::

    column:  x [T, H]    ─ A (on both ranks)    ─▶ h [T, r] ─ B [half of the rows, r]  ─▶ half of the output
    row:     x [T, H/2]  ─ A [r, H/2]           ─▶ h [T, r], summed ─ B (on both)      ─▶ whole output

In the backward pass a column's ``h`` gets its gradient from the B of both ranks: it is summed there, and A's gradient
is whole on both. Under sequence parallelism a rank has T/2 of the tokens outside of the layer: ``h`` is gathered
(column) or scattered (row), and the matrix that both ranks hold sees half of the tokens on each, so its mark
``sequence_parallel`` has Megatron sum its gradient, as it does for norms.

The rows of ``linear_qkv`` are ordered by key-value head (see :mod:`msm_hpc.training.checkpoints.weights`), so what q, k
and v add is interleaved the same way.

Transformer Engine fuses the norm before a column-parallel layer into it; there the adapter norms the layer's input
again. That path is written from Transformer Engine 2.11's sources and has not been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    reduce_scatter_to_sequence_parallel_region,
)
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint
from torch import Tensor

from msm_hpc.config.training import Lora
from msm_hpc.model.adapter import Projection, projections
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.megatron.private import change_output


@dataclass(frozen=True)
class Parallelism:
    """How one kind of tensor-parallel layer divides its adapter.

    Attributes:
        cut: the matrix that is cut over ranks, ``lora_A`` or ``lora_B``; every rank has all of the other.
        exchange: what ranks do with ``h = A x``, [tokens, batch, rank of each projection].
        exchange_sequence: the same under sequence parallelism.
    """

    cut: str
    exchange: Callable[[Tensor], Tensor]
    exchange_sequence: Callable[[Tensor], Tensor]


COLUMN = Parallelism("lora_B", copy_to_tensor_model_parallel_region, gather_from_sequence_parallel_region)
ROW = Parallelism("lora_A", reduce_from_tensor_model_parallel_region, reduce_scatter_to_sequence_parallel_region)


class _Pair(torch.nn.Module):
    """This rank's part of ``A`` and ``B`` of one projection; ``cut`` is the one that tensor parallelism cuts."""

    def __init__(self, projection: Projection, rank: int, cut: str, config: TransformerConfig) -> None:
        super().__init__()
        for half in ("lora_A", "lora_B"):
            shape = list(projection.shape(half, rank))
            axis = _cut_axis(half)
            if half == cut:
                shape[axis] //= parallel_state.get_tensor_model_parallel_world_size()
            parameter = torch.nn.Parameter(torch.empty(shape, dtype=config.params_dtype))
            if half == cut:
                set_tensor_model_parallel_attributes(parameter, True, axis, 1)
            else:
                parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]
            self.register_parameter(half, parameter)

    def forward(self) -> tuple[Tensor, Tensor]:
        """``A`` and ``B``.

        Read through a call so that Megatron's hook on this module waits for the parameter all-gather
        (``overlap_param_gather``); without it they could be stale.
        """
        return self.get_parameter("lora_A"), self.get_parameter("lora_B")


class Adapter(torch.nn.Module):
    """What LoRA adds to the output of one tensor-parallel layer."""

    def __init__(
        self, fused: Sequence[Projection], parallelism: Parallelism, groups: int, lora: Lora, config: TransformerConfig
    ) -> None:
        """Make the matrices; their weights are not set.

        Args:
            fused: the projections that the layer computes, in its order.
            parallelism: how the layer is cut over ranks.
            groups: into how many equal groups, on this rank, the rows of each projection are cut and interleaved.
            lora: rank and scale.
            config: of the model.
        """
        super().__init__()
        self.names = [projection.name for projection in fused]
        self.cut = parallelism.cut
        for projection in fused:
            self.add_module(projection.name, _Pair(projection, lora.rank, self.cut, config))
        self.groups = groups
        self.scale = lora.alpha / lora.rank
        self.exchange = parallelism.exchange_sequence if config.sequence_parallel else parallelism.exchange

    def forward(self, input_: Tensor) -> Tensor:
        """From the layer's input, [tokens, batch, columns], what to add to its output, [tokens, batch, rows]."""
        all_a, all_b = zip(*(self.get_submodule(name)() for name in self.names), strict=True)
        # As a matrix: of three axes torch may choose another product where no gradient is due, which rounds otherwise.
        product = F.linear(input_.flatten(0, 1), torch.cat(all_a)).view(*input_.shape[:2], -1)
        hidden = self.exchange(product * self.scale)
        parts = [
            F.linear(part, lora_b).view(*part.shape[:-1], self.groups, -1)
            for part, lora_b in zip(hidden.chunk(len(all_b), dim=-1), all_b, strict=True)
        ]
        return torch.cat(parts, dim=-1).flatten(-2)

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: Any = (), metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Called by Megatron: each matrix as its part of a global tensor of the checkpoint."""
        assert metadata is not None
        sharded: dict[str, Any] = make_sharded_tensors_for_checkpoint(
            self.state_dict(prefix="", keep_vars=True),
            prefix,
            {f"{name}.{self.cut}": _cut_axis(self.cut) for name in self.names},
            sharded_offsets,
            tp_group=parallel_state.get_tensor_model_parallel_group(),
            dp_cp_group=metadata["dp_cp_group"],
        )
        return sharded


def adapt(chunks: Sequence[GPTModel], model: Transformer, lora: Lora) -> None:
    """Freeze ``chunks``, a rank's part of ``model``, and put an adapter beside each tensor-parallel layer of theirs.

    To be called before the data-parallel wrapper is made, which then has buffers for the adapter alone. The adapter's
    weights are not set.
    """
    fused: dict[str, list[Projection]] = {}
    for projection in projections(model):
        fused.setdefault(projection.linear, []).append(projection)
    for chunk in chunks:
        chunk.requires_grad_(False)
        for layer in chunk.decoder.layers:
            for linear, of_linear in fused.items():
                _attach(layer, linear, of_linear, lora, chunk.config)
        if chunk.pre_process:
            chunk.embedding.register_forward_hook(_require_gradient)


def _require_gradient(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """Have the first layer, whose input is frozen, run its backward pass as all others do.

    Recomputation needs a gradient to start from, and emulated delayed scaling updates its scales there.
    """
    return output.requires_grad_(torch.is_grad_enabled())


def _attach(
    layer: torch.nn.Module, linear: str, fused: Sequence[Projection], lora: Lora, config: TransformerConfig
) -> None:
    """Put an adapter beside the layer, not within it: Megatron takes all within its layers for replicated."""
    owner, _, name = linear.rpartition(".")
    parallelism = ROW if fused[0].row_parallel else COLUMN
    groups = config.num_query_groups // config.tensor_model_parallel_size if name == "linear_qkv" else 1
    adapter = Adapter(fused, parallelism, groups, lora, config).cuda(torch.cuda.current_device())
    layer.get_submodule(owner).add_module(f"{name}_adapter", adapter)

    module = layer.get_submodule(linear)
    change_output(module, lambda input_, output: output + adapter(_multiplied(module, input_)))


def _multiplied(linear: Any, input_: Tensor) -> Tensor:
    """What ``linear`` multiplies: its input, normed where Transformer Engine has fused the norm into it."""
    weight = getattr(linear, "layer_norm_weight", None)
    return input_ if weight is None else F.rms_norm(input_, weight.shape, weight, linear.eps)


def _cut_axis(half: str) -> int:
    """``A`` is cut by input columns, ``B`` by output rows."""
    return 1 if half == "lora_A" else 0
