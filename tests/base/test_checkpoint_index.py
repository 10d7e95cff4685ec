"""Indices that somebody has written by hand: nothing of them runs, and the message names what was to run."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex

from msm_hpc.base.checkpoint_index import ForeignNameError, read_index
from msm_hpc.base.errors import UserError


class Calls:
    """What is pickled as a call of ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def written(folder: Path, index: Any) -> Path:
    (folder / ".metadata").write_bytes(index if isinstance(index, bytes) else pickle.dumps(index))
    return folder


def stored_in(file: str) -> Metadata:
    return Metadata(OrderedDict(weight=None), storage_data={MetadataIndex("weight"): _StorageInfo(file, 0, 8)})  # type: ignore[arg-type]


def test_an_index_of_torch_s_is_read(tmp_path: Path) -> None:
    assert read_index(written(tmp_path, stored_in("__0_0.distcp"))) == stored_in("__0_0.distcp")


@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "posix.system"), (eval, "builtins.eval"), (SimpleNamespace, "types.SimpleName")]
)
def test_what_is_no_part_of_an_index_is_not_called(tmp_path: Path, function: Any, name: str) -> None:
    there = tmp_path / "ran"
    whole = stored_in("__0_0.distcp")
    whole.planner_data = Calls(function, *([f"touch {there}"] if function is os.system else ()))
    with pytest.raises(ForeignNameError, match=rf"\.metadata names {name}.*, which no checkpoint needs"):
        read_index(written(tmp_path, whole))
    assert not there.exists()
    if function is os.system:
        pickle.loads((tmp_path / ".metadata").read_bytes())
        assert there.exists(), "the file is one that would have run"


@pytest.mark.parametrize(
    "name", ["load", "Size.__class__", "metadata.os.system", "_utils._import_dotted_name", "int8.x"]
)
def test_of_torch_itself_only_shapes_and_dtypes(tmp_path: Path, name: str) -> None:
    text = f"\x8c\x05torch\x8c{chr(len(name))}{name}\x93.".encode("latin-1")
    with pytest.raises(ForeignNameError, match=rf"names torch\.{name}"):
        read_index(written(tmp_path, b"\x80\x04" + text))


@pytest.mark.parametrize("file", ["../other/__0_0.distcp", "/etc/passwd", "sub/__0_0.distcp"])
def test_parts_lie_in_the_folder(tmp_path: Path, file: str) -> None:
    with pytest.raises(ForeignNameError, match="is not in its folder"):
        read_index(written(tmp_path, stored_in(file)))


_TOO_LONG = [b"\x8e" + (2**bits).to_bytes(8, "little") for bits in (62, 63)]
"""A string of more bytes than there is memory for, or than can be counted: one flipped bit of a length."""


@pytest.mark.parametrize(
    "index",
    [b"", b"no pickle", b"\x80\x04.", {"weight": 1}, None, Metadata({}, storage_data=3), *_TOO_LONG],
)
def test_a_damaged_index(tmp_path: Path, index: Any) -> None:
    with pytest.raises(UserError, match=r"\.metadata cannot be read .*: the checkpoint is damaged; make it again"):
        read_index(written(tmp_path, index))


def test_no_index(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_index(tmp_path)
