"""Checks that a checkpoint can be loaded into a model, before Megatron tries and fails with a long traceback.

A ``torch_dist`` checkpoint's ``.metadata`` says which tensors there are and where each part lies::

    decoder.layers.mlp.linear_fc2.weight [32, 4096, 14336]     layer 7: bytes 81264640 to 198705152 of __0_0.distcp

so names and shapes show another model, and sizes show a file that was cut short, without reading any weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed.checkpoint.metadata import Metadata

from msm_hpc.base.checkpoint_index import read_index
from msm_hpc.base.errors import UserError
from msm_hpc.model.architecture import MODEL_KEYS
from msm_hpc.training.checkpoints.hashes import damage
from msm_hpc.training.checkpoints.initial import sharded_tensors
from msm_hpc.training.megatron.private import INDEX_FILES


def check_loadable(weights: dict[int, dict[str, Any]], path: Path) -> None:
    """Check that ``path`` holds a whole checkpoint of exactly these ``weights``, of all ranks; each must call this.

    Raises:
        UserError: it does not; raised on every rank, with the first problem of the first rank that found one.
    """
    mine = {tensor.key: tensor.global_shape for tensor in sharded_tensors(weights)}
    everyone: list[dict[str, tuple[int, ...]]] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(everyone, mine)
    needed = {key: shape for shapes in everyone for key, shape in shapes.items()}
    found: list[str | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, next(_problems(path, needed), None))
    if problems := [problem for problem in found if problem]:
        raise UserError(problems[0])


def check_hashes(path: Path) -> None:
    """Check that the files of the checkpoint at ``path`` are as they were written; every rank reads a part of them.

    Raises:
        UserError: one is not; raised on every rank.
    """
    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    found: list[str | None] = [None] * ranks
    distributed.all_gather_object(found, damage(path, rank, ranks))
    if damages := [each for each in found if each]:
        raise UserError(f"{path}: {damages[0]}")


def _check_complete(path: Path) -> Metadata:
    """The index of the checkpoint at ``path``, all of whose files are there in their sizes; reads no tensors."""
    for name in INDEX_FILES:
        if not (path / name).exists():
            raise UserError(f"{path}: no torch_dist checkpoint here ({name} is missing)")
    try:
        metadata: Metadata = read_index(path)
    except OSError as error:
        raise UserError(
            f"{path}/.metadata cannot be read ({error}): the checkpoint is damaged; make it again"
        ) from error
    if problem := next(_cut_short(path, metadata), None):
        raise UserError(problem)
    return metadata


def _problems(path: Path, needed: dict[str, tuple[int, ...]]) -> Iterator[str]:
    try:
        yield from _other_model(path, _check_complete(path), needed)
    except UserError as error:
        yield str(error)


def _other_model(path: Path, metadata: Metadata, needed: dict[str, tuple[int, ...]]) -> Iterator[str]:
    shapes = {key: getattr(stored, "size", None) for key, stored in metadata.state_dict_metadata.items()}
    stored = {key: tuple(shape) for key, shape in shapes.items() if shape is not None}
    for key, shape in needed.items():
        if stored.get(key) != shape:
            found = f"has {list(stored[key])}" if key in stored else "has no such tensor"
            yield f"{path}: {key}: the model needs shape {list(shape)}, the checkpoint {found}; it is of another model"
    extra = sorted(key for key in stored.keys() - needed.keys() if key.startswith(MODEL_KEYS))
    if extra:
        yield f"{path}: {', '.join(extra)}: the model has no such tensor; the checkpoint is of another model"


def _cut_short(path: Path, metadata: Metadata) -> Iterator[str]:
    sizes: dict[str, int] = {}
    for index, stored in metadata.storage_data.items():
        file = path / stored.relative_path
        if stored.relative_path not in sizes:
            sizes[stored.relative_path] = file.stat().st_size if file.exists() else 0
        size, end = sizes[stored.relative_path], stored.offset + stored.length
        if size < end:
            yield (
                f"{file}: {size} bytes (0: it may be missing), but {index.fqn} is at bytes {stored.offset} to {end}: "
                "the checkpoint was cut short; make it or copy it again"
            )
