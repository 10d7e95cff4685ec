"""LoRA adapters: the projections, keys and shapes that training, checkpoints and exports share.

LoRA (arXiv 2106.09685) leaves the model as it is and learns, for each projection ``W`` [rows, columns] of a layer, two
thin matrices: ``A`` [rank, columns] and ``B`` [rows, rank]. The layer computes ``W x + alpha / rank * B A x``.

There is one pair for each *Hugging Face* projection, as in PEFT, although Megatron computes queries, keys and values in
one product, and gate and up in another: an adapter of the fused matrix would share ``A`` among them, and PEFT could not
express that.

PEFT's file has the matrices of our checkpoints under other names, layer by layer::

    decoder.layers.mlp.linear_fc2_adapter.down_proj.lora_A [L, r, F], layer 3
    base_model.model.model.layers.3.mlp.down_proj.lora_A.weight [r, F]

An adapter is stored alone: of Qwen2.5-32B 1 GB in the place of 66. ``lora.json`` beside it names its *base*, the
weights that it was trained on, by :func:`fingerprint`, and whoever puts the two together compares that::

    {"rank": 64, "alpha": 128.0, "base": "3f1c…"}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Lora
from msm_hpc.model.architecture import Transformer, read_object

NOTE = "lora.json"
"""A file beside each adapter: it has ``alpha``, which no tensor has, and names the base."""

BASE = "checkpoint.sha256"
"""A file of an exported model: the fingerprint of its checkpoint, by which an adapter finds its base."""

KEYS = "_adapter."
"""A part of the key of every adapter tensor, and of no other key."""

HALVES = ("lora_A", "lora_B")
"""The two matrices of a projection."""

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of PEFT's folder."""


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

    def hf_module(self, layer: int) -> str:
        """Its Hugging Face name in the model."""
        return f"model.layers.{layer}.{self.module}"

    def peft_name(self, half: str, layer: int) -> str:
        """The tensor of ``lora_A`` or ``lora_B`` of one layer in PEFT's file."""
        return f"base_model.model.{self.hf_module(layer)}.{half}.weight"

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


def in_layers(model: Transformer) -> Iterator[tuple[Projection, int]]:
    """All projections of the model, each with its layer."""
    for layer in range(model.shape.num_hidden_layers):
        for projection in projections(model):
            yield projection, layer


def peft_shapes(model: Transformer, rank: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in PEFT's file by name."""
    return {each.peft_name(half, layer): each.shape(half, rank) for each, layer in in_layers(model) for half in HALVES}


def parameters(model: Transformer, lora: Lora) -> int:
    """The number of weights of an adapter of the whole model."""
    each = sum(projection.rows + projection.columns for projection in projections(model))
    return model.shape.num_hidden_layers * lora.rank * each


@dataclass(frozen=True)
class Note:
    """What ``lora.json`` says of an adapter: its settings, and the fingerprint of the checkpoint that it belongs to."""

    lora: Lora
    base: str

    @property
    def files(self) -> Mapping[str, str]:
        """The file that belongs beside the adapter, by name."""
        return {NOTE: json.dumps({**asdict(self.lora), "base": self.base}) + "\n"}

    def check_base(self, found: str, adapter: Path, base: Path) -> None:
        """Check that ``base``, whose fingerprint is ``found``, is what the adapter in ``adapter`` was trained on.

        Raises:
            UserError: it is not.
        """
        if found != self.base:
            raise UserError(
                f"{adapter} was trained on other weights than those of {base} (fingerprint {self.base[:12]}, here "
                f"{found[:12]}): give the base that it was trained on, or train the adapter again on this one"
            )

    def check_exported(self, base: Path, adapter: Path) -> None:
        """As :meth:`check_base`, of ``base``, an exported model.

        Raises:
            UserError: it is not.
        """
        known = base / BASE
        if not known.is_file():
            raise UserError(f"{base} is not the export of a checkpoint of all weights: {BASE} is missing; export it")
        self.check_base(known.read_text(encoding="utf-8").strip(), adapter, base)


def read_note(folder: Path) -> Note | None:
    """The note beside an adapter, or None where there is no adapter.

    Raises:
        UserError: it is damaged.
    """
    path = folder / NOTE
    if not path.is_file():
        return None
    found = read_object(path)
    base = found.pop("base", None)
    try:
        return TypeAdapter(Note).validate_python({"lora": found, "base": base})
    except ValidationError as error:
        wrong = "; ".join(f"{each['loc'][-1]}: {each['msg']}" for each in error.errors())
        raise UserError(f"{path} is damaged ({wrong}); copy the adapter again, or train it again") from error


def read_exported(folder: Path, base: Path) -> Note:
    """The note beside an exported adapter of ``base``, an exported model.

    Raises:
        UserError: there is no adapter, or not one of this base.
    """
    note = read_note(folder)
    if note is None:
        raise UserError(f"{folder} is not an exported adapter: it has no {NOTE}; run the export stage first")
    note.check_exported(base, folder)
    return note


_BLOCK = 4096
_MOST_BLOCKS = 16_384


def fingerprint(checkpoint: Path) -> str:
    """Which weights these are: SHA-256 of the names, sizes and evenly spaced blocks of the files of a checkpoint.

    Up to 64 MiB every byte is read, of 66 GB as much: enough to tell two trainings apart. (A flipped bit is found by
    the hashes in ``done.json``.)

    Raises:
        UserError: there are none.
    """
    files = sorted(checkpoint.glob("*.distcp"))
    if not files:
        raise UserError(f"{checkpoint} is no torch_dist checkpoint: it has no *.distcp; make it or copy it again")
    return fingerprint_of(files)


def fingerprint_of(files: Sequence[Path]) -> str:
    """As :func:`fingerprint`, of any files."""
    sizes = [file.stat().st_size for file in files]
    stride = max(_BLOCK, -(-sum(sizes) // _MOST_BLOCKS))
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as opened:
            for start in range(0, size, stride):
                opened.seek(start)
                digest.update(opened.read(_BLOCK))
    return digest.hexdigest()
