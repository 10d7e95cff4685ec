"""Exporting LoRA adapters: as a folder that ``peft`` and vLLM load, or merged into the weights of their base.

A checkpoint of a LoRA run has the adapter alone, a pair of matrices for each Hugging Face projection
(:mod:`msm_hpc.model.adapter`). PEFT's file has the same matrices under other names, and is read again once written. A
merged weight is ``W + alpha / rank * B A``, computed in float32 and rounded to the dtype of the export: in bfloat16 it
loses what the adapter changes by less than half a step of ``W``.

Matrices are read from disk one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json, write_text
from msm_hpc.config.stages import ExportInputs
from msm_hpc.conversion.checkpoint import CheckpointReader
from msm_hpc.conversion.files import HUB
from msm_hpc.conversion.gate import Samples, check_adapter
from msm_hpc.conversion.weights import write_weights
from msm_hpc.model.adapter import (
    HALVES,
    PEFT_CONFIG,
    PEFT_WEIGHTS,
    Note,
    Projection,
    fingerprint,
    in_layers,
    peft_shapes,
    projections,
    read_note,
)
from msm_hpc.model.architecture import Transformer

_ONE_FILE = 2**62  # bytes of a shard: PEFT reads a single file only


class StoredAdapter:
    """Reads the adapter in a checkpoint."""

    def __init__(self, folder: Path, model: Transformer, note: Note) -> None:
        """Open the checkpoint in ``folder``; no tensor is read yet.

        Raises:
            UserError: there is none, or it is of another model.
        """
        self.note, self._lora, self._checkpoint = note, note.lora, CheckpointReader(folder)
        self._model = model
        self._checkpoint.check_holds(self._shapes)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors in the checkpoint by key."""
        rank, layers = self._lora.rank, self._model.shape.num_hidden_layers
        return {
            each.key(half): (layers, *each.shape(half, rank)) for each in projections(self._model) for half in HALVES
        }

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The Hugging Face weight ``name``, ``weight`` in float32, with the adapter added where it has that weight."""
        if name not in self._adapted:
            return weight
        projection, layer = self._adapted[name]
        lora_a, lora_b = (self._checkpoint.read(projection.key(half), torch.float32, layer) for half in HALVES)
        return torch.addmm(weight, lora_b, lora_a, alpha=self._lora.alpha / self._lora.rank)

    @property
    def dtype(self) -> torch.dtype:
        """Of its tensors in the checkpoint."""
        return self._checkpoint.dtype(next(iter(self._shapes)))

    def write(self, folder: Path, dtype: torch.dtype, base_model: Mapping[str, str]) -> None:
        """Write the two files of ``peft.PeftModel.from_pretrained``, and read the tensors again.

        ``base_model`` are the fields that name the base there; our own note of it is written beside them.

        Raises:
            UserError: what was written is not what is read.
        """
        write_json(folder / PEFT_CONFIG, {**self._peft_config(), **base_model})
        for name, text in self.note.files.items():
            write_text(folder / name, text)
        shapes, samples = peft_shapes(self._model, self._lora.rank), Samples()
        pattern = PEFT_WEIGHTS.replace(".", "{suffix}.")
        write_weights(folder, shapes, dtype, samples.of(self._matrices(dtype)), _ONE_FILE, pattern)
        check_adapter(folder, shapes, samples)

    def _matrices(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        for each, layer in in_layers(self._model):
            for half in HALVES:
                yield each.peft_name(half, layer), self._checkpoint.read(each.key(half), dtype, layer)

    def _peft_config(self) -> Mapping[str, object]:
        """Fields of ``peft.LoraConfig``."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self._lora.rank,
            "lora_alpha": self._lora.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": [each.name for each in projections(self._model)],
            "inference_mode": True,
        }

    @cached_property
    def _adapted(self) -> Mapping[str, tuple[Projection, int]]:
        """Projection and layer by Hugging Face weight."""
        return {f"{each.hf_module(layer)}.weight": (each, layer) for each, layer in in_layers(self._model)}


def read_adapter(folder: Path, model: Transformer) -> StoredAdapter | None:
    """The adapter in the checkpoint ``folder``; None of one with all weights.

    Raises:
        UserError: as :class:`StoredAdapter`.
    """
    note = read_note(folder)
    return StoredAdapter(folder, model, note) if note else None


def export_adapter(stored: StoredAdapter, inputs: ExportInputs, dtype: torch.dtype | None, out: Path) -> None:
    """Write the adapter ``stored`` in ``inputs.checkpoint`` as PEFT's folder ``out``, which names its base.

    Without a ``dtype`` it keeps its own.

    Raises:
        UserError: ``inputs.base_model`` is not the export of the adapter's base.
    """
    base = inputs.base_model
    if base is None:
        raise UserError(
            f"{inputs.checkpoint} holds an adapter: give base_model, the export of what it was trained on, or set "
            "merge=true and give base, the checkpoint of that"
        )
    stored.note.check_exported(base, inputs.checkpoint)
    stored.write(out, dtype or stored.dtype, _base_model(stored.note, inputs.model, base))


def checked_base(note: Note, inputs: ExportInputs) -> Path:
    """The checkpoint that the adapter in ``inputs.checkpoint`` is to be merged into.

    Raises:
        UserError: none is given, or it is not what the adapter was trained on.
    """
    if inputs.base is None:
        raise UserError(
            f"{inputs.checkpoint} holds an adapter to merge: give base, the checkpoint that it was trained on"
        )
    folder = inputs.base / "checkpoint"
    note.check_base(fingerprint(folder), inputs.checkpoint, folder)
    return folder


def _base_model(note: Note, model: Path, base: Path) -> Mapping[str, str]:
    """PEFT's fields for the base: its name on the hub where it is the model from there, else the path of its export."""
    if (model / HUB).is_file() and fingerprint(model / "checkpoint") == note.base:
        hub = read_json(model / HUB)
        return {"base_model_name_or_path": hub["name"], "revision": hub["revision"]}
    return {"base_model_name_or_path": str(base.absolute())}
