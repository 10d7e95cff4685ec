"""LoRA on Megatron's tensor-parallel layers: which rank holds what, and where sums over ranks are due.

Take two tensor-parallel ranks (T tokens, hidden size H, rank r). A *column-parallel* layer (queries, keys and values;
gate and up) gives each rank half of the output rows for all tokens; a *row-parallel* one (the projections back to the
residual stream) takes half of the input columns from each rank and adds up. The adapter of either is cut alike, and
what is exchanged is only r wide::

    column:  x [T, H]    ─ A (on both ranks)    ─▶ h [T, r] ─ B [half of the rows, r]  ─▶ half of the output
    row:     x [T, H/2]  ─ A [r, H/2]           ─▶ h [T, r], added up ─ B (on both)    ─▶ whole output

Backwards, a column's ``h`` gets its gradient from B's of both ranks: it is added up there, and A's gradient is whole on
both. Under sequence parallelism a rank has T/2 of the tokens outside of the layer: ``h`` is gathered (column) or
scattered (row), and the matrix that both ranks hold sees half of the tokens on each, so its mark ``sequence_parallel``
has Megatron add up its gradient, as it does for norms.

The rows of ``linear_qkv`` go by key-value head (see :mod:`msm_hpc.training.checkpoints.resume`), so what q, k and
v add is interleaved likewise.

Transformer Engine fuses the norm before a column-parallel layer into it; there the adapter norms the layer's input once
more. That path is written from Transformer Engine 2.11's sources and has not been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class _Pair(torch.nn.Module):
    """This rank's part of ``A`` and ``B`` of one projection; ``cut`` names the half that tensor parallelism cuts."""

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

        To be had by a call: where weights are gathered while others are computed with (``overlap_param_gather``),
        Megatron's hook at the call of the module that holds them waits for them. Else they would be stale.
        """
        return self.get_parameter("lora_A"), self.get_parameter("lora_B")


class Adapter(torch.nn.Module):
    """What LoRA adds to the output of one tensor-parallel layer."""

    cut: str

    def __init__(self, fused: Sequence[Projection], groups: int, lora: Lora, config: TransformerConfig) -> None:
        """Weights are not set.

        Args:
            fused: the projections that the layer computes, in its order.
            groups: into how many equal groups, of this rank, the rows of each are cut and interleaved.
            lora: rank and scale.
            config: of the model.
        """
        super().__init__()
        self.names = [projection.name for projection in fused]
        for projection in fused:
            self.add_module(projection.name, _Pair(projection, lora.rank, self.cut, config))
        self.groups = groups
        self.scale = lora.alpha / lora.rank
        self.sequence_parallel = config.sequence_parallel

    def forward(self, input_: Tensor) -> Tensor:
        """From the layer's input, [tokens, batch, columns], what to add to its output, [tokens, batch, rows]."""
        all_a, all_b = zip(*(self.get_submodule(name)() for name in self.names), strict=True)
        hidden = self._between(F.linear(input_, torch.cat(all_a)) * self.scale)
        parts = [
            F.linear(part, lora_b).view(*part.shape[:-1], self.groups, -1)
            for part, lora_b in zip(hidden.chunk(len(all_b), dim=-1), all_b, strict=True)
        ]
        return torch.cat(parts, dim=-1).flatten(-2)

    def _between(self, hidden: Tensor) -> Tensor:
        """What tensor parallelism does to ``A x``, [tokens, batch, rank of each projection]."""
        raise NotImplementedError

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: Any = (), metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Megatron's hook: each matrix as its part of a global tensor of the checkpoint."""
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


class ColumnParallelAdapter(Adapter):
    """Of a layer whose output rows are cut over ranks."""

    cut = "lora_B"

    def _between(self, hidden: Tensor) -> Tensor:
        if self.sequence_parallel:
            gathered: Tensor = gather_from_sequence_parallel_region(hidden)
            return gathered
        copied: Tensor = copy_to_tensor_model_parallel_region(hidden)
        return copied


class RowParallelAdapter(Adapter):
    """Of a layer whose input columns are cut over ranks."""

    cut = "lora_A"

    def _between(self, hidden: Tensor) -> Tensor:
        over_ranks = (
            reduce_scatter_to_sequence_parallel_region
            if self.sequence_parallel
            else reduce_from_tensor_model_parallel_region
        )
        summed: Tensor = over_ranks(hidden)
        return summed


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
    """So that the first layer, whose input is frozen, goes backwards like all others.

    Recomputation needs a gradient to start from, and emulated delayed scaling updates its scales there.
    """
    return output.requires_grad_(torch.is_grad_enabled())


def _attach(
    layer: torch.nn.Module, linear: str, fused: Sequence[Projection], lora: Lora, config: TransformerConfig
) -> None:
    """Beside the layer, not within it: Megatron's layers take all that is within them for replicated."""
    owner, _, name = linear.rpartition(".")
    kind = RowParallelAdapter if fused[0].row_parallel else ColumnParallelAdapter
    groups = config.num_query_groups // config.tensor_model_parallel_size if name == "linear_qkv" else 1
    adapter = kind(fused, groups, lora, config).cuda(torch.cuda.current_device())
    layer.get_submodule(owner).add_module(f"{name}_adapter", adapter)

    def add(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor | None]) -> Any:
        return output[0] + adapter(_multiplied(module, inputs[0])), output[1]

    layer.get_submodule(linear).register_forward_hook(add)


def _multiplied(linear: Any, input_: Tensor) -> Tensor:
    """What ``linear`` multiplies: its input, normed where Transformer Engine has fused the norm into it."""
    weight = getattr(linear, "layer_norm_weight", None)
    return input_ if weight is None else F.rms_norm(input_, weight.shape, weight, linear.eps)


def _cut_axis(half: str) -> int:
    """``A`` is cut by input columns, ``B`` by output rows."""
    return 1 if half == "lora_A" else 0
