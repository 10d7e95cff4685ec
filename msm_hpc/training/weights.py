"""Initial weights that do not depend on the layout.

Megatron's own initialisation draws from one random stream a rank, so a model started with ``pipeline_parallel=2`` is
another model than one started with 1. Here the weights of each tensor are drawn from a stream of its own, named by the
seed, the tensor's key in the checkpoint and its layer; a rank keeps its part of what was drawn.

(``perform_initialization=False`` would spare Megatron its own drawing, but also the marks on tensor-parallel weights,
without which the gradient norm counts one rank's part only.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories
from megatron.core.models.gpt import GPTModel
from torch import Tensor

_OUTPUT_PROJECTIONS = ("linear_proj.weight", "linear_fc2.weight")
_NORMS = ("layer_norm_weight", "layernorm.weight")


@torch.no_grad()
def initialise(model: GPTModel, seed: int) -> None:
    """Set the weights of this rank's ``model``.

    Normal with ``initializer_range``, divided by ``sqrt(2 * layers)`` for the projections that write to the residual
    stream (Megatron's default, after GPT-2); 1 for the norms, those of queries and keys too, and 0 for biases.
    """
    for tensor in local_tensors(model):
        whole = _whole(tensor, model, seed)
        layer_axes = tensor.prepend_axis_num
        part = tuple(
            slice(start, start + size)
            for start, size in zip(tensor.global_offset[layer_axes:], tensor.local_shape, strict=True)
        )
        tensor.data.copy_(whole[part])


def local_tensors(model: GPTModel) -> Iterator[ShardedTensor]:
    """This rank's tensors with their place in the global ones; each ``data`` is a view of the model's own."""
    state = model.sharded_state_dict()
    apply_factories(state)
    for value in nested_values(state):
        if isinstance(value, ShardedTensor):
            yield value


def _whole(tensor: ShardedTensor, model: GPTModel, seed: int) -> Tensor:
    layer_axes = tensor.prepend_axis_num
    shape = tensor.global_shape[layer_axes:]
    if tensor.key.endswith(_NORMS):
        return torch.ones(shape)
    if tensor.key.endswith(".bias"):
        return torch.zeros(shape)
    projection = tensor.key.endswith(_OUTPUT_PROJECTIONS)
    draw = model.config.output_layer_init_method if projection else model.config.init_method
    name = f"{seed}/{tensor.key}/{tensor.global_offset[:layer_axes]}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]))
        whole: Tensor = draw(torch.empty(shape))
    return whole
