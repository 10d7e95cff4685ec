"""Reading and writing Megatron's ``torch_dist`` checkpoints in one process with plain ``torch.distributed.checkpoint``.

A ``torch_dist`` checkpoint is an ordinary torch distributed checkpoint (``.metadata`` and ``*.distcp``) of global
tensors, with two small files that Megatron looks for: ``metadata.json``, which names the format, and ``common.pt``,
which holds what is not a tensor (for weights alone: nothing). So neither Megatron, nor a process group, nor a GPU is
needed to convert a model.

A global tensor is stored in pieces (torch calls them chunks). Torch reads a whole piece even where only a part of it is
wanted, so the writer cuts stacked tensors into layers, as Megatron does: otherwise a rank that holds one layer of 80
would read all of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import ReadItem, SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.utils import _create_file_view
from torch.utils.serialization import config as serialization

from msm_hpc.base.checkpoint_index import read_index
from msm_hpc.base.errors import DivergedError, UserError
from msm_hpc.base.files import write_json
from msm_hpc.conversion.workspace import Workspace, memory_of
from msm_hpc.model.architecture import MODEL_KEYS

OTHER = "export it with the model that it was trained from"

# megatron.core.dist_checkpointing.core.CheckpointingConfig, for the backend "torch_dist".
_FORMAT = {
    "sharded_backend": "torch_dist",
    "sharded_backend_version": 1,
    "common_backend": "torch",
    "common_backend_version": 1,
}


@dataclass(frozen=True)
class TensorPiece:
    """A piece of the global tensor ``key``.

    ``global_shape``, ``offset`` and ``shape`` have the global tensor's number of axes; the result of ``data`` may lack
    the first. ``data`` is called when the piece is written; its tensor need be valid only until the next call.
    """

    key: str
    global_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    data: Callable[[], Tensor]


def write_checkpoint(folder: Path, pieces: Sequence[TensorPiece]) -> None:
    """Write ``pieces``, which together cover their global tensors, as a ``torch_dist`` checkpoint of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    # Checksums take a fifth of the time, and torch does not check them when it reads.
    with serialization.patch("save.compute_crc32", False):  # type: ignore[attr-defined]
        # With a GPU torch would otherwise call `data` of the next pieces ahead of writing this one.
        writer = FileSystemWriter(folder, per_thread_copy_ahead=0)
        save({}, storage_writer=writer, planner=_PiecePlanner(pieces), no_dist=True)
    torch.save({}, folder / "common.pt")
    write_json(folder / "metadata.json", _FORMAT)


class CheckpointReader:
    """Reads tensors from a ``torch_dist`` checkpoint."""

    def __init__(self, folder: Path) -> None:
        """Read the checkpoint's table of contents.

        Raises:
            UserError: ``folder`` is not a ``torch_dist`` checkpoint, or its index is damaged or was changed.
        """
        self._folder = folder
        try:
            contents = read_index(folder)
        except OSError as error:
            raise UserError(f"{folder} is not a torch_dist checkpoint: cannot read its .metadata ({error})") from error
        self._storage: Mapping[MetadataIndex, Any] = contents.storage_data  # file, offset and length of each piece
        self._stored = {
            key: stored
            for key, stored in contents.state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }
        self._workspace = Workspace()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the global tensors by key."""
        return {key: tuple(stored.size) for key, stored in self._stored.items()}

    def check_holds(self, expected: Mapping[str, tuple[int, ...]]) -> None:
        """Check that these are the tensors of a model there, by key and shape.

        Raises:
            UserError: one is missing, is there beside them, or has another shape.
        """
        folder, found = self._folder, self.shapes
        if missing := expected.keys() - found.keys():
            raise UserError(
                f"{folder} lacks {', '.join(sorted(missing))}: it is not a checkpoint of this model; {OTHER}"
            )
        if extra := {key for key in found if key.startswith(MODEL_KEYS)} - expected.keys():
            raise UserError(f"{folder} has {', '.join(sorted(extra))}, which this model lacks; {OTHER}")
        for key, shape in expected.items():
            if found[key] != shape:
                raise UserError(
                    f"{folder}: {key} has shape {list(found[key])}, but this model's is {list(shape)}; {OTHER}"
                )

    def dtype(self, key: str) -> torch.dtype:
        """Of a global tensor, as it is stored."""
        return self._stored[key].properties.dtype

    def read(self, key: str, dtype: torch.dtype, layer: int | None = None) -> Tensor:
        """As :meth:`read_into`, into a new tensor of ``dtype``."""
        shape = tuple(self._stored[key].size)
        tensor = torch.empty(shape if layer is None else shape[1:], dtype=dtype)
        self.read_into(tensor, key, layer)
        return tensor

    def read_into(self, tensor: Tensor, key: str, layer: int | None = None) -> None:
        """Fill ``tensor`` with the global tensor ``key``, or with its slice for ``layer``.

        Raises:
            UserError: a file of the checkpoint is missing or cut short, or a value is not finite.
        """
        wanted = tensor if layer is None else tensor.unsqueeze(0)
        region = ChunkStorageMetadata(torch.Size((layer or 0, *(0 for _ in wanted.shape[1:]))), wanted.shape)
        try:
            for item in create_read_items_for_chunk_list(key, self._stored[key], [region]):
                self._read(item, wanted[_slices(item.dest_offsets, item.lengths)])
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            raise UserError(f"{self._folder}: {key} cannot be read; the checkpoint is damaged: {error}") from error
        # Both bounds are NaN where any value is; unlike isfinite() of the tensor, this needs no memory.
        if not all(bound.isfinite() for bound in tensor.aminmax()):
            raise DivergedError(f"{self._folder}: {key} has values that are not finite: the training diverged")

    def _read(self, item: ReadItem, wanted: Tensor) -> None:
        """Fill ``wanted`` from the stored piece of ``item``, which is read whole.

        It is read straight into ``wanted`` where shapes and dtypes are the same. ``torch.load`` to "meta" leaves the
        values in the file, and gives their offset.
        """
        place = self._storage[item.storage_index]
        with (self._folder / place.relative_path).open("rb") as file:
            view: Any = _create_file_view(file, place.offset, place.length)
            found = torch.load(view, map_location="meta", weights_only=True)
            assert found.is_contiguous() and found.storage_offset() == 0, "as Megatron saves it"
            same = (wanted.shape, wanted.dtype) == (found.shape, found.dtype) and wanted.is_contiguous()
            piece = wanted if same else self._workspace.tensor(found.shape, found.dtype)
            file.seek(place.offset + found.untyped_storage()._checkpoint_offset)
            if file.readinto(memory_of(piece)) < piece.nbytes:
                raise EOFError(f"{file.name} is cut short")
        if not same:
            wanted.copy_(piece[_slices(item.storage_offsets, item.lengths)])


def _slices(offsets: torch.Size, lengths: torch.Size) -> tuple[slice, ...]:
    return tuple(slice(start, start + length) for start, length in zip(offsets, lengths, strict=True))


class _PiecePlanner(DefaultSavePlanner):
    """Has torch write the given pieces; its own planner would write each tensor of one process as one piece."""

    def __init__(self, pieces: Sequence[TensorPiece]) -> None:
        super().__init__(flatten_state_dict=False)
        self._pieces = {MetadataIndex(piece.key, piece.offset): piece for piece in pieces}

    def create_local_plan(self) -> SavePlan:
        self.plan = SavePlan([_write_item(index, piece) for index, piece in self._pieces.items()])
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        piece = self._pieces[index]
        return piece.data().view(piece.shape)


def _write_item(index: MetadataIndex, piece: TensorPiece) -> WriteItem:
    region = ChunkStorageMetadata(offsets=torch.Size(piece.offset), sizes=torch.Size(piece.shape))
    data = TensorWriteData(region, TensorProperties(dtype=piece.dtype), torch.Size(piece.global_shape))
    return WriteItem(index=index, type=WriteItemType.SHARD, tensor_data=data)
