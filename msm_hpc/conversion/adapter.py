"""Exporting LoRA adapters: merged into the weights, and as a folder that ``peft`` loads.

A checkpoint of a LoRA run has the frozen weights and the adapter, a pair of matrices for each Hugging Face projection
(:mod:`msm_hpc.model.adapter`). PEFT's file has the same matrices under other names, and a merged weight is
``W + alpha / rank * B A``::

    decoder.layers.mlp.linear_fc2_adapter.down_proj.lora_A [L, r, F], layer 3
    base_model.model.model.layers.3.mlp.down_proj.lora_A.weight [r, F]

Matrices are read from disk one at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from msm_hpc.base.files import write_json
from msm_hpc.config.training import Lora
from msm_hpc.conversion.checkpoint import CheckpointReader
from msm_hpc.conversion.weights import write_weights
from msm_hpc.model.adapter import Projection, projections
from msm_hpc.model.architecture import Transformer

_HALVES = ("lora_A", "lora_B")
_ONE_FILE = 2**62  # bytes of a shard: PEFT reads a single file only


class StoredAdapter:
    """Reads the adapter in a checkpoint."""

    def __init__(self, checkpoint: CheckpointReader, model: Transformer, lora: Lora) -> None:
        """Nothing is read yet."""
        self._checkpoint, self._lora = checkpoint, lora
        self._layers = model.shape.num_hidden_layers
        self._projections = projections(model)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of its tensors in the checkpoint by key."""
        rank = self._lora.rank
        return {
            each.key(half): (self._layers, *each.shape(half, rank)) for each in self._projections for half in _HALVES
        }

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """The Hugging Face weight ``name``, ``weight`` in float32, with the adapter added where it has that weight."""
        if name not in self._adapted:
            return weight
        projection, layer = self._adapted[name]
        lora_a, lora_b = (self._checkpoint.read(projection.key(half), torch.float32, layer) for half in _HALVES)
        return torch.addmm(weight, lora_b, lora_a, alpha=self._lora.alpha / self._lora.rank)

    def write(self, folder: Path, dtype: torch.dtype) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors`` for ``peft.PeftModel.from_pretrained``.

        The folder does not name the base model, whose path differs from machine to machine.
        """
        folder.mkdir()
        write_json(folder / "adapter_config.json", self._peft_config())
        shapes = {
            f"base_model.model.{name}": each.shape(half, self._lora.rank)
            for layer in range(self._layers)
            for each in self._projections
            for half, name in _names(each, layer)
        }
        write_weights(folder, shapes, dtype, self._matrices(dtype), _ONE_FILE, "adapter_model{suffix}.safetensors")

    def _matrices(self, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
        for layer in range(self._layers):
            for each in self._projections:
                for half, name in _names(each, layer):
                    yield f"base_model.model.{name}", self._checkpoint.read(each.key(half), dtype, layer)

    def _peft_config(self) -> Mapping[str, object]:
        """Fields of ``peft.LoraConfig``."""
        return {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self._lora.rank,
            "lora_alpha": self._lora.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": [each.name for each in self._projections],
            "inference_mode": True,
        }

    @cached_property
    def _adapted(self) -> Mapping[str, tuple[Projection, int]]:
        """Projection and layer by Hugging Face weight."""
        return {
            f"model.layers.{layer}.{each.module}.weight": (each, layer)
            for layer in range(self._layers)
            for each in self._projections
        }


def _names(projection: Projection, layer: int) -> Iterator[tuple[str, str]]:
    """Both halves with their names in PEFT's files."""
    for half in _HALVES:
        yield half, f"model.layers.{layer}.{projection.module}.{half}.weight"
