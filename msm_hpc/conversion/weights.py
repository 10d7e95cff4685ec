"""Reading and writing Hugging Face weights in safetensors files, one tensor in memory at a time.

A safetensors file is the length of its header (8 bytes, little endian), a JSON header with the offset of each tensor,
and the tensors' bytes end to end (https://github.com/huggingface/safetensors#format). The library maps a file into
memory for reading, but writes only files whose tensors are all in memory. Here all shapes are known beforehand, so the
headers are written first, and then each tensor at its offset::

    model-00001-of-00002.safetensors   [length][header][embedding][layer 0 ...
    model-00002-of-00002.safetensors   [length][header][... layer 63]
    model.safetensors.index.json       {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors", ...}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from torch import Tensor

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.conversion.workspace import memory_of
from msm_hpc.model.architecture import read_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """The file, shape and dtype of a stored tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: torch.dtype


class StoredWeights(Mapping[str, Tensor]):
    """The weights of a folder by name, mapped from their files.

    Each look-up opens the file: one that stayed open would keep every page that was read in this process's memory.
    """

    def __init__(self, folder: Path, single: str = SINGLE) -> None:
        """Read the headers of ``single`` or of the files in the index.

        Raises:
            UserError: a file or the index is missing or damaged, or has tensors that are not 16-bit or 32-bit floating
                point.
        """
        files = [folder / single] if (folder / single).is_file() else _indexed(folder / INDEX)
        self.table: Mapping[str, StoredTensor] = {name: stored for file in files for name, stored in _contents(file)}

    def __getitem__(self, name: str) -> Tensor:
        with safe_open(self.table[name].file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)


def has_safetensors(folder: Path) -> bool:
    """Whether ``folder`` has weights that :class:`StoredWeights` reads."""
    return (folder / INDEX).is_file() or any(folder.glob("model*.safetensors"))


def write_weights(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    weights: Iterable[tuple[str, Tensor]],
    shard_size: int | str = "5GB",
    pattern: str = "model{suffix}.safetensors",
) -> None:
    """Write ``weights``, contiguous and of ``dtype``, in any order; their names and shapes are exactly ``shapes``.

    Files are as ``huggingface_hub.save_torch_state_dict`` writes them: one up to ``shard_size`` bytes, several with an
    index above that, named by ``pattern``.
    """
    empty = {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()}
    split = split_torch_state_dict_into_shards(empty, filename_pattern=pattern, max_shard_size=shard_size)
    offsets: dict[str, tuple[Path, int]] = {}
    for file, names in split.filename_to_tensors.items():
        starts = _write_header(folder / file, {name: shapes[name] for name in names}, dtype)
        offsets |= {name: (folder / file, start) for name, start in starts.items()}
    for name, weight in weights:
        assert (weight.shape, weight.dtype) == (empty[name].shape, dtype), name
        path, start = offsets.pop(name)
        with path.open("r+b") as opened:
            opened.seek(start)
            opened.write(memory_of(weight))
    assert not offsets, sorted(offsets)
    if split.is_sharded:
        write_json(folder / INDEX, {"metadata": split.metadata, "weight_map": split.tensor_to_filename})


def _indexed(index: Path) -> list[Path]:
    """The files that an index names, all in its folder."""
    if not index.is_file():
        raise UserError(f"{index} does not exist, and the weights are in several files; copy or download it")
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(map(_is_name, weight_map.values())):
        raise UserError(f"{index}: weight_map: expected a file name by weight; copy or download the model again")
    files = sorted({index.parent / name for name in weight_map.values()})
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"{index} names files that are not there: {', '.join(missing)}; copy or download them")
    return files


def _is_name(file: object) -> bool:
    return isinstance(file, str) and file == Path(file).name


def _contents(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    try:
        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118  (it is not a mapping)
            for name, found in slices.items():
                if found.get_dtype() not in _DTYPES:
                    raise UserError(
                        f"{file}: {name} is {found.get_dtype()}; only {', '.join(_DTYPES)} can be trained: give the "
                        "model that the quantized one was made from"
                    )
                yield name, StoredTensor(file, tuple(found.get_shape()), _DTYPES[found.get_dtype()])
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be loaded: {error}; download or copy it again") from error


def _write_header(file: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, int]:
    """Create ``file`` with its header; returns the offset in it of each tensor."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    starts: dict[str, int] = {}
    end = 0
    for name, shape in shapes.items():
        starts[name] = end
        end += math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [starts[name], end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)  # so that tensors are aligned
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    return {name: 8 + len(header) + start for name, start in starts.items()}
