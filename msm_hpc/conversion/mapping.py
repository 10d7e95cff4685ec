"""A model's weights under their two names: Hugging Face's and Megatron's.

Megatron fuses what is multiplied with the same input, and its checkpoints stack all layers in one *global* tensor, as
if there were no parallelism. So the mapping below is the same for every layout. With 4 query heads (q0..q3) in 2
key-value groups, and all layers 0..L-1:

    Hugging Face, one tensor a layer             Megatron, one tensor                    shape
    q_proj [q0 q1 q2 q3], k_proj [k0 k1],        self_attention.linear_qkv.weight        [L, rows of q, k and v, hidden]
    v_proj [v0 v1]                               = [q0 q1 k0 v0 | q2 q3 k1 v1]
    their biases (Qwen2)                         self_attention.linear_qkv.bias, same    [L, rows of q, k and v]
    q_norm, k_norm (Qwen3)                       self_attention.q_layernorm, k_layernorm [L, head_dim]
    gate_proj, up_proj                           mlp.linear_fc1.weight = [gate | up]     [L, 2 * intermediate, hidden]
    embed_tokens                                 embedding.word_embeddings.weight        [padded vocabulary, hidden]

The query, key and value rows are interleaved by key-value group, so that a tensor-parallel rank gets whole groups.
:class:`GlobalTensor` does all of this by one rule: *cut every part into the same number of groups, then put the first
group of each part together, then the second*. One group is plain concatenation, and one part in one group is only
renamed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from msm_hpc.conversion.workspace import Workspace
from msm_hpc.model.architecture import Transformer


@dataclass(frozen=True)
class HfTensor:
    """A Hugging Face tensor by name and rows; ``{layer}`` in ``name`` stands for the layer's number."""

    name: str
    rows: int


@dataclass(frozen=True)
class GlobalTensor:
    """One tensor of a Megatron checkpoint, and the Hugging Face tensors in it.

    ``columns`` is None for a vector; ``layers`` is None for a tensor that is not stacked by layer; ``padding`` is
    the number of rows of zeros at the end, which training leaves out of the softmax.
    """

    key: str
    parts: tuple[HfTensor, ...]
    columns: int | None
    layers: int | None = None
    groups: int = 1
    padding: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the checkpoint: ``[layers, rows, columns]``, without the axes that it lacks."""
        return self.layer_shape if self.layers is None else (self.layers, *self.layer_shape)

    @property
    def layer_shape(self) -> tuple[int, ...]:
        """``[rows, columns]`` of one layer."""
        return sum(part.rows for part in self.parts) + self.padding, *self._columns

    def hf_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Hugging Face names and shapes of the parts in ``layer``, in order."""
        return {part.name.format(layer=layer): (part.rows, *self._columns) for part in self.parts}

    def fuse(self, weights: Mapping[str, Tensor], layer: int, workspace: Workspace) -> Tensor:
        """``[rows, columns]``: the parts of ``layer``, from ``weights`` by Hugging Face name.

        They are put together in ``workspace``; a single part without padding is returned as it is.
        """
        names = list(self.hf_shapes(layer))
        first = weights[names[0]]
        if len(names) == 1 and not self.padding:
            return first
        fused = workspace.tensor(self.layer_shape, first.dtype)
        for name, view in zip(names, self._views(fused), strict=True):
            view.copy_(weights[name].view(view.shape))
        fused[self.layer_shape[0] - self.padding :] = 0
        return fused

    def split(self, fused: Tensor, layer: int) -> Iterator[tuple[str, Tensor]]:
        """The inverse of :meth:`fuse`: Hugging Face names with contiguous tensors that may share ``fused``'s memory."""
        for name, view in zip(self.hf_shapes(layer), self._views(fused), strict=True):
            yield name, view.flatten(0, 1).contiguous()

    def _views(self, fused: Tensor) -> tuple[Tensor, ...]:
        """The part of ``fused`` that each Hugging Face tensor fills: views ``[groups, rows / groups, columns]``."""
        grouped = fused[: self.layer_shape[0] - self.padding].view(self.groups, -1, *self._columns)
        return torch.split(grouped, [part.rows // self.groups for part in self.parts], dim=1)

    @property
    def _columns(self) -> tuple[int, ...]:
        return () if self.columns is None else (self.columns,)


def global_tensors(model: Transformer) -> tuple[GlobalTensor, ...]:
    """Every tensor of ``model``; there is no output layer where embeddings are tied."""
    hidden, vocabulary = model.shape.hidden_size, model.vocab_size
    padding = model.padded_vocab_size - vocabulary
    embedding = (HfTensor("model.embed_tokens.weight", vocabulary),)
    outside = [
        GlobalTensor("embedding.word_embeddings.weight", embedding, hidden, padding=padding),
        GlobalTensor("decoder.final_layernorm.weight", (HfTensor("model.norm.weight", hidden),), None),
    ]
    if not model.shape.tie_word_embeddings:
        output = (HfTensor("lm_head.weight", vocabulary),)
        outside.append(GlobalTensor("output_layer.weight", output, hidden, padding=padding))
    return (*outside, *_attention(model), *_mlp(model))


def _attention(model: Transformer) -> Iterator[GlobalTensor]:
    hidden, layers, groups = model.shape.hidden_size, model.shape.num_hidden_layers, model.shape.num_key_value_heads
    attention = "decoder.layers.self_attention"
    yield GlobalTensor(f"{attention}.linear_qkv.layer_norm_weight", _parts(("input_layernorm", hidden)), None, layers)
    qkv = [("self_attn.q_proj", model.query_rows), ("self_attn.k_proj", model.key_rows)]
    qkv.append(("self_attn.v_proj", model.key_rows))
    yield GlobalTensor(f"{attention}.linear_qkv.weight", _parts(*qkv), hidden, layers, groups)
    if model.qkv_bias:
        yield GlobalTensor(f"{attention}.linear_qkv.bias", _parts(*qkv, kind="bias"), None, layers, groups)
    for name in ("q", "k") if model.qk_norm else ():
        norm = _parts((f"self_attn.{name}_norm", model.head_dim))
        yield GlobalTensor(f"{attention}.{name}_layernorm.weight", norm, None, layers)
    output = _parts(("self_attn.o_proj", hidden))
    yield GlobalTensor(f"{attention}.linear_proj.weight", output, model.query_rows, layers)


def _mlp(model: Transformer) -> Iterator[GlobalTensor]:
    hidden, layers, width = model.shape.hidden_size, model.shape.num_hidden_layers, model.shape.intermediate_size
    norm = _parts(("post_attention_layernorm", hidden))
    yield GlobalTensor("decoder.layers.mlp.linear_fc1.layer_norm_weight", norm, None, layers)
    gate_up = _parts(("mlp.gate_proj", width), ("mlp.up_proj", width))
    yield GlobalTensor("decoder.layers.mlp.linear_fc1.weight", gate_up, hidden, layers)
    yield GlobalTensor("decoder.layers.mlp.linear_fc2.weight", _parts(("mlp.down_proj", hidden)), width, layers)


def _parts(*modules: tuple[str, int], kind: str = "weight") -> tuple[HfTensor, ...]:
    """The Hugging Face tensor of each module, given with its rows, in every layer."""
    return tuple(HfTensor(f"model.layers.{{layer}}.{module}.{kind}", rows) for module, rows in modules)
