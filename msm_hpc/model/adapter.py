"""LoRA adapters: the projections, keys and shapes that training, checkpoints and exports share.

LoRA (arXiv 2106.09685) leaves the model as it is and learns, for each projection ``W`` [rows, columns] of a layer, two
thin matrices: ``A`` [rank, columns] and ``B`` [rows, rank]. The layer computes ``W x + alpha / rank * B A x``.

There is one pair for each *Hugging Face* projection, as in PEFT, although Megatron computes queries, keys and values in
one product, and gate and up in another: an adapter of the fused matrix would share ``A`` among them, and PEFT could not
express that.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.files import read_json
from msm_hpc.config.training import Lora
from msm_hpc.model.architecture import Transformer

NOTE = "lora.json"
"""A file in each checkpoint with an adapter: it has ``alpha``, which no tensor has."""

KEYS = "_adapter."
"""A part of the key of every adapter tensor, and of no other key."""


@dataclass(frozen=True)
class Projection:
    """One adapted projection of every layer.

    ``module`` is its Hugging Face name within a layer, ``linear`` the Megatron module that computes it.
    """

    module: str
    linear: str
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """The last part of ``module``, such as ``q_proj``."""
        return self.module.rpartition(".")[2]

    @property
    def row_parallel(self) -> bool:
        """Whether tensor parallelism splits its columns (Megatron's ``RowParallelLinear``), not its rows."""
        return self.linear.endswith(("linear_proj", "linear_fc2"))

    def key(self, half: str) -> str:
        """The global tensor of ``lora_A`` ([layers, rank, columns]) or ``lora_B`` ([layers, rows, rank])."""
        return f"decoder.layers.{self.linear}{KEYS}{self.name}.{half}"

    def shape(self, half: str, rank: int) -> tuple[int, int]:
        """Shape of ``lora_A`` or ``lora_B`` in one layer."""
        return (rank, self.columns) if half == "lora_A" else (self.rows, rank)


def projections(model: Transformer) -> tuple[Projection, ...]:
    """The seven projections of a layer; those of one Megatron module are adjacent, in its order."""
    hidden, width = model.shape.hidden_size, model.shape.intermediate_size
    return (
        Projection("self_attn.q_proj", "self_attention.linear_qkv", model.query_rows, hidden),
        Projection("self_attn.k_proj", "self_attention.linear_qkv", model.key_rows, hidden),
        Projection("self_attn.v_proj", "self_attention.linear_qkv", model.key_rows, hidden),
        Projection("self_attn.o_proj", "self_attention.linear_proj", hidden, model.query_rows),
        Projection("mlp.gate_proj", "mlp.linear_fc1", width, hidden),
        Projection("mlp.up_proj", "mlp.linear_fc1", width, hidden),
        Projection("mlp.down_proj", "mlp.linear_fc2", hidden, width),
    )


def parameters(model: Transformer, lora: Lora) -> int:
    """The number of weights of an adapter of the whole model."""
    each = sum(projection.rows + projection.columns for projection in projections(model))
    return model.shape.num_hidden_layers * lora.rank * each


def note(lora: Lora | None) -> dict[str, str]:
    """The files, by name, that a checkpoint needs beside its tensors: none without an adapter."""
    return {} if lora is None else {NOTE: json.dumps(asdict(lora)) + "\n"}


def read_note(checkpoint: Path) -> Lora | None:
    """The adapter's settings in a checkpoint, or None without an adapter."""
    path = checkpoint / NOTE
    return Lora(**read_json(path)) if path.is_file() else None
