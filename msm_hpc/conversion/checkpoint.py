"""Megatron's ``torch_dist`` checkpoints, read and written by one process with plain ``torch.distributed.checkpoint``.

A ``torch_dist`` checkpoint is an ordinary torch distributed checkpoint (``.metadata`` and ``*.distcp``) of global
tensors, with two small files that Megatron looks for: ``metadata.json``, which names the format, and ``common.pt``,
which holds what is not a tensor (for weights alone: nothing). So neither Megatron, nor a process group, nor a GPU is
needed to convert a model.

Stored are *chunks* of the global tensors. Torch reads a chunk whole even for a part of it, so the writer cuts stacked
tensors into layers, as Megatron does: else, a rank that holds one layer of 80 would read all of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.utils.serialization import config as serialization

from msm_hpc.errors import UserError
from msm_hpc.files import write_json

# megatron.core.dist_checkpointing.core.CheckpointingConfig, for the backend "torch_dist".
_FORMAT = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}


@dataclass(frozen=True)
class Chunk:
    """A part of the global tensor ``key``; ``data`` is called when it is written, so that one chunk at a time is made.

    ``global_shape``, ``offset`` and ``shape`` have the global tensor's number of axes.
    """

    key: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    data: Callable[[], Tensor]


def write_checkpoint(folder: Path, chunks: Sequence[Chunk]) -> None:
    """Write ``chunks``, which together cover their global tensors, as a ``torch_dist`` checkpoint of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    # Checksums take a fifth of the time, and torch does not look at them when it reads.
    with serialization.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
        save({}, storage_writer=FileSystemWriter(folder), planner=_ChunkPlanner(chunks), no_dist=True)
    torch.save({}, folder / "common.pt")
    write_json(folder / "metadata.json", _FORMAT)


class Checkpoint:
    """A ``torch_dist`` checkpoint to read tensors from."""

    def __init__(self, folder: Path) -> None:
        """Read the checkpoint's table of contents.

        Raises:
            UserError: ``folder`` holds no ``torch_dist`` checkpoint.
        """
        self._folder = folder
        try:
            self._reader = _Reader(folder)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"{folder} is not a torch_dist checkpoint: cannot read its .metadata ({error})") from error
        self.shapes: Mapping[str, tuple[int, ...]] = {
            key: tuple(stored.size)
            for key, stored in self._reader.read_metadata().state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }

    def read(self, key: str, dtype: torch.dtype, layer: int | None = None) -> Tensor:
        """The global tensor ``key``, or only what it holds of ``layer``, cast to ``dtype``.

        Raises:
            UserError: a file of the checkpoint is missing or cut short, or a value is not finite.
        """
        shape = self.shapes[key]
        if layer is not None:
            tensor = self._read(key, torch.empty(1, *shape[1:], dtype=dtype), _LayerPlanner(layer)).squeeze(0)
        else:
            tensor = self._read(key, torch.empty(shape, dtype=dtype), DefaultLoadPlanner(flatten_state_dict=False))
        # Both are NaN where any value is; unlike isfinite(), it needs no memory.
        if not all(bound.isfinite() for bound in tensor.aminmax()):
            raise UserError(f"{self._folder}: {key} has values that are not finite: the training run has diverged")
        return tensor

    def _read(self, key: str, tensor: Tensor, planner: DefaultLoadPlanner) -> Tensor:
        try:
            load({key: tensor}, storage_reader=self._reader, planner=planner, no_dist=True)
        except CheckpointException as error:
            raise UserError(f"{self._folder}: {key} cannot be read; the checkpoint is damaged: {error}") from error
        return tensor


class _Reader(FileSystemReader):
    """Reads the table of contents once; torch's own reads it for every tensor."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._contents = super().read_metadata()

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._contents


class _LayerPlanner(DefaultLoadPlanner):
    """Has torch read one layer of a stacked tensor, into ``[1, rows, columns]``; its own planner reads the whole."""

    def __init__(self, layer: int) -> None:
        super().__init__(flatten_state_dict=False)
        self._layer = layer

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        ((key, tensor),) = self.state_dict.items()
        stored = self.metadata.state_dict_metadata[key]
        assert isinstance(stored, TensorStorageMetadata)
        offsets = torch.Size((self._layer, *(0 for _ in tensor.shape[1:])))
        return LoadPlan(create_read_items_for_chunk_list(key, stored, [ChunkStorageMetadata(offsets, tensor.shape)]))

    def lookup_tensor(self, index: MetadataIndex) -> Tensor:
        tensor: Tensor = self.state_dict[index.fqn]
        return tensor


class _ChunkPlanner(DefaultSavePlanner):
    """Has torch write chunks; its own planner takes a tensor in one process as one chunk."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        super().__init__(flatten_state_dict=False)
        self._chunks = {MetadataIndex(chunk.key, chunk.offset): chunk for chunk in chunks}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([_write_item(index, chunk) for index, chunk in self._chunks.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self._chunks[index].data()


def _write_item(index: MetadataIndex, chunk: Chunk) -> WriteItem:
    place = ChunkStorageMetadata(offsets=torch.Size(chunk.offset), sizes=torch.Size(chunk.shape))
    data = TensorWriteData(place, TensorProperties(dtype=chunk.dtype), torch.Size(chunk.global_shape))
    return WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data)
