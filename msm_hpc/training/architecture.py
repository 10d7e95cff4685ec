"""The shape of the model to train, read from a Hugging Face ``config.json`` without torch or transformers.

A field that would change the mathematics and that we do not map is refused, never ignored: a run that trained a model
slightly different from the one that is evaluated later would look healthy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.config import Architecture
from msm_hpc.errors import UserError
from msm_hpc.files import read_json

VOCABULARY_MULTIPLE = 128
"""The embedding's rows are rounded up to a multiple of this at any layout: a fixed part of the checkpoint format."""

# Megatron-core builds these constants of Llama 3.1's RoPE into its RotaryEmbedding; only the factor can be chosen.
LLAMA3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

_REQUIRED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "partial_rotary_factor": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Llama:
    """A ``LlamaForCausalLM``; ``rope_factor`` is the context-extension factor of Llama 3.1's RoPE, None without."""

    shape: Architecture
    vocab_size: int
    head_dim: int
    rope_factor: float | None = None

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: ``vocab_size`` rounded up to a multiple of :data:`VOCABULARY_MULTIPLE`."""
        return -(-self.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE

    @property
    def parameters(self) -> int:
        """Weights of the whole model, without the rows that pad the vocabulary."""
        shape = self.shape
        width = shape.hidden_size
        attention = 2 * (shape.num_attention_heads + shape.num_key_value_heads) * self.head_dim * width
        layer = attention + 3 * width * shape.intermediate_size + 2 * width
        embeddings = (1 if shape.tie_word_embeddings else 2) * self.vocab_size * width
        return embeddings + shape.num_hidden_layers * layer + width


def read_architecture(folder: Path) -> Llama:
    """The model described by ``config.json`` in ``folder``.

    Raises:
        UserError: the architecture is not ``LlamaForCausalLM``, or a field has a value that training does not support.
    """
    path = folder / "config.json"
    raw = read_json(path)
    names = raw.get("architectures") or [raw.get("model_type")]
    if names != ["LlamaForCausalLM"]:
        raise UserError(f"{path}: architectures: {names} cannot be trained; the only one supported is LlamaForCausalLM")
    for field, value in _REQUIRED.items():
        if raw.get(field, value) != value:
            raise UserError(f"{path}: {field}: {raw[field]!r} is not supported; training knows only {value!r}")
    theta, factor = _rope(path, raw)
    heads = raw["num_attention_heads"]
    return Llama(
        shape=Architecture(
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_hidden_layers=raw["num_hidden_layers"],
            num_attention_heads=heads,
            num_key_value_heads=raw.get("num_key_value_heads") or heads,
            max_position_embeddings=raw["max_position_embeddings"],
            rms_norm_eps=raw["rms_norm_eps"],
            rope_theta=theta,
            tie_word_embeddings=raw.get("tie_word_embeddings", False),
            initializer_range=raw.get("initializer_range", 0.02),
        ),
        vocab_size=raw["vocab_size"],
        head_dim=raw.get("head_dim") or raw["hidden_size"] // heads,
        rope_factor=factor,
    )


def _rope(path: Path, raw: Mapping[str, Any]) -> tuple[float, float | None]:
    """RoPE's base and Llama 3.1 factor; transformers 5 writes ``rope_parameters``, earlier ones two fields."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    others = rope.keys() - {"rope_type", "type", "rope_theta"}
    if kind == "default" and not others:
        return theta, None
    llama3 = kind == "llama3" and others == {"factor", *LLAMA3_ROPE}
    if llama3 and all(rope[field] == value for field, value in LLAMA3_ROPE.items()):
        return theta, float(rope["factor"])
    raise UserError(
        f"{path}: rope_parameters (rope_scaling): {dict(rope)} is not supported; training knows rope_type default with "
        f"rope_theta alone, and llama3 with a factor and {LLAMA3_ROPE}"
    )
