"""Initial weights that do not depend on the layout.

Megatron's own initialisation draws from one random stream for each rank, so a model started with
``pipeline_parallel=2`` has other weights than one started with 1. Here the weights of each tensor are drawn from a
stream of its own, named by the seed, the tensor's key in the checkpoint and its layer; a rank keeps its part of them.

(Megatron is given functions that draw nothing. ``perform_initialization=False`` would also skip the marks on
tensor-parallel weights, without which the gradient norm counts only one rank's part.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.utils import init_method_normal, scaled_init_method_normal
from torch import Tensor

from msm_hpc.config.training import InitialSpread

_OUTPUT_PROJECTIONS = ("linear_proj.weight", "linear_fc2.weight")
_EMBEDDING = "embedding.word_embeddings.weight"
_ADAPTER = (".lora_A", ".lora_B")
_NORMS = ("layer_norm_weight", "layernorm.weight")


@torch.no_grad()
def initialise(
    chunks: Sequence[GPTModel], seed: int, only: str = "", spread: InitialSpread = "initializer_range"
) -> None:
    """Draw the weights of this rank's ``chunks`` of the model, or only those with ``only`` in their key.

    Normal with ``initializer_range``, divided by ``sqrt(2 * layers)`` for the projections that write to the residual
    stream (Megatron's default, after GPT-2); 1 for the norms, those of queries and keys too, and 0 for biases. Of an
    adapter, ``A`` is uniform within ``1 / sqrt(columns)`` and ``B`` 0 (PEFT, ``LoraLayer.reset_lora_parameters``).

    With ``spread="fan_in"`` all matrices but the embedding have ``1 / sqrt(columns)`` in place of
    ``initializer_range`` (LeCun et al., Efficient BackProp, section 4.6).
    """
    for tensor in local_tensors(chunks):
        if only not in tensor.key:
            continue
        whole = _whole(tensor, chunks[0].config, seed, spread)
        layer_axes = tensor.prepend_axis_num
        part = tuple(
            slice(start, start + size)
            for start, size in zip(tensor.global_offset[layer_axes:], tensor.local_shape, strict=True)
        )
        tensor.data.copy_(whole[part])


def local_tensors(chunks: Sequence[GPTModel]) -> Iterator[ShardedTensor]:
    """This rank's tensors with their offsets in the global ones; each ``data`` is a view of the model's own."""
    for chunk in chunks:
        yield from sharded_tensors(chunk.sharded_state_dict())


def sharded_tensors(state: dict[Any, Any]) -> Iterator[ShardedTensor]:
    """The tensors of a sharded ``state``, which is changed."""
    apply_factories(state)
    for value in nested_values(state):
        if isinstance(value, ShardedTensor):
            yield value


def _whole(tensor: ShardedTensor, config: TransformerConfig, seed: int, spread: InitialSpread) -> Tensor:
    layer_axes = tensor.prepend_axis_num
    shape = tensor.global_shape[layer_axes:]
    if tensor.key.endswith(_NORMS):
        return torch.ones(shape)
    if tensor.key.endswith((".bias", _ADAPTER[1])):
        return torch.zeros(shape)
    draw = _draw(tensor.key, config)
    name = f"{seed}/{tensor.key}/{tensor.global_offset[:layer_axes]}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]))
        whole = draw(torch.empty(shape))
    if spread == "fan_in" and not tensor.key.endswith((_EMBEDDING, *_ADAPTER)):
        whole *= shape[-1] ** -0.5 / config.init_method_std
    return whole


def _draw(key: str, config: TransformerConfig) -> Callable[[Tensor], Tensor]:
    if key.endswith(_ADAPTER[0]):
        return partial(torch.nn.init.kaiming_uniform_, a=math.sqrt(5))
    drawn: Callable[[Tensor], Tensor]
    if key.endswith(_OUTPUT_PROJECTIONS):
        drawn = scaled_init_method_normal(config.init_method_std, config.num_layers)
    else:
        drawn = init_method_normal(config.init_method_std)
    return drawn
