"""A Llama's weights under their two names: Hugging Face's and Megatron's.

Megatron fuses what is multiplied with the same input, and its checkpoints stack all layers in one *global* tensor, as
if there were no parallelism. So the mapping below is the same for every layout. With 4 query heads (q0..q3) in 2
key-value groups, and all layers 0..L-1:

    Hugging Face, one tensor a layer             Megatron, one tensor                    shape
    q_proj [q0 q1 q2 q3], k_proj [k0 k1],        self_attention.linear_qkv.weight        [L, rows of q, k and v, hidden]
    v_proj [v0 v1]                               = [q0 q1 k0 v0 | q2 q3 k1 v1]
    gate_proj, up_proj                           mlp.linear_fc1.weight = [gate | up]     [L, 2 * intermediate, hidden]
    embed_tokens                                 embedding.word_embeddings.weight        [padded vocabulary, hidden]

The query, key and value rows are interleaved by key-value group, so that a tensor-parallel rank gets whole groups.
:class:`GlobalTensor` says it once for all: *cut every part into the same number of groups, then put the first group of
each part together, then the second*. One group is plain concatenation, and one part in one group is a mere new name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig

VOCABULARY_MULTIPLE = 128


@dataclass(frozen=True)
class Part:
    """A Hugging Face tensor; ``{layer}`` in ``name`` stands for the layer's number."""

    name: str
    rows: int


@dataclass(frozen=True)
class GlobalTensor:
    """One tensor of a Megatron checkpoint, and the Hugging Face tensors in it.

    ``columns`` is None for a vector; ``layers`` is None for a tensor that is not stacked by layer; ``padding`` counts
    rows of zeros at the end, which training leaves out of the softmax.
    """

    key: str
    parts: tuple[Part, ...]
    columns: int | None
    layers: int | None = None
    groups: int = 1
    padding: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the checkpoint: ``[layers, rows, columns]``, less the axes that it does not have."""
        stacked = () if self.layers is None else (self.layers,)
        return *stacked, sum(part.rows for part in self.parts) + self.padding, *self._columns

    def names(self, layer: int) -> tuple[str, ...]:
        """The Hugging Face names of the parts in ``layer``."""
        return tuple(part.name.format(layer=layer) for part in self.parts)

    def fuse(self, weights: Mapping[str, Tensor], layer: int) -> Tensor:
        """``[rows, columns]``: the parts of ``layer``, from ``weights`` by Hugging Face name."""
        grouped = [weights[name].reshape(self.groups, -1, *self._columns) for name in self.names(layer)]
        fused = torch.cat(grouped, dim=1).flatten(0, 1)
        return torch.cat([fused, fused.new_zeros(self.padding, *self._columns)]) if self.padding else fused

    def split(self, fused: Tensor, layer: int) -> Iterator[tuple[str, Tensor]]:
        """The inverse of :meth:`fuse`: Hugging Face names with contiguous tensors of their own."""
        rows = sum(part.rows for part in self.parts)
        grouped = fused[:rows].reshape(self.groups, -1, *self._columns)
        pieces = torch.split(grouped, [part.rows // self.groups for part in self.parts], dim=1)
        for name, piece in zip(self.names(layer), pieces, strict=True):
            yield name, piece.flatten(0, 1).clone(memory_format=torch.contiguous_format)

    @property
    def _columns(self) -> tuple[int, ...]:
        return () if self.columns is None else (self.columns,)


def global_tensors(config: LlamaConfig) -> tuple[GlobalTensor, ...]:
    """Every weight of the model, as megatron-core 0.16 names and shapes it in ``GPTModel.sharded_state_dict``.

    Tied embeddings have no output layer of their own.
    """
    hidden, vocabulary = config.hidden_size, config.vocab_size
    padding = -vocabulary % VOCABULARY_MULTIPLE
    embedding = (Part("model.embed_tokens.weight", vocabulary),)
    outside = [
        GlobalTensor("embedding.word_embeddings.weight", embedding, hidden, padding=padding),
        GlobalTensor("decoder.final_layernorm.weight", (Part("model.norm.weight", hidden),), None),
    ]
    if not config.tie_word_embeddings:
        output = (Part("lm_head.weight", vocabulary),)
        outside.append(GlobalTensor("output_layer.weight", output, hidden, padding=padding))
    return (*outside, *_attention(config), *_mlp(config))


def _attention(config: LlamaConfig) -> Iterator[GlobalTensor]:
    hidden, layers, groups = config.hidden_size, config.num_hidden_layers, config.num_key_value_heads
    assert groups is not None and config.head_dim is not None, "LlamaConfig sets both when it is made"
    queries, keys = config.num_attention_heads * config.head_dim, groups * config.head_dim
    norm = _part("input_layernorm", hidden)
    yield GlobalTensor("decoder.layers.self_attention.linear_qkv.layer_norm_weight", (norm,), None, layers)
    qkv = (_part("self_attn.q_proj", queries), _part("self_attn.k_proj", keys), _part("self_attn.v_proj", keys))
    yield GlobalTensor("decoder.layers.self_attention.linear_qkv.weight", qkv, hidden, layers, groups)
    output = _part("self_attn.o_proj", hidden)
    yield GlobalTensor("decoder.layers.self_attention.linear_proj.weight", (output,), queries, layers)


def _mlp(config: LlamaConfig) -> Iterator[GlobalTensor]:
    hidden, layers, intermediate = config.hidden_size, config.num_hidden_layers, config.intermediate_size
    norm = _part("post_attention_layernorm", hidden)
    yield GlobalTensor("decoder.layers.mlp.linear_fc1.layer_norm_weight", (norm,), None, layers)
    gate_up = (_part("mlp.gate_proj", intermediate), _part("mlp.up_proj", intermediate))
    yield GlobalTensor("decoder.layers.mlp.linear_fc1.weight", gate_up, hidden, layers)
    down = _part("mlp.down_proj", hidden)
    yield GlobalTensor("decoder.layers.mlp.linear_fc2.weight", (down,), intermediate, layers)


def _part(module: str, rows: int) -> Part:
    return Part(f"model.layers.{{layer}}.{module}.weight", rows)
