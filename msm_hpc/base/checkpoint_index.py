"""The index of a ``torch_dist`` checkpoint, which is a pickle: only what an index is made of is called to read it.

A pickle may name any function of any module, which is called as it is read. So whoever can write into the folder of a
checkpoint could have code run as whoever loads it::

    cos\\nsystem\\n(S'id'\\ntR.        .metadata, with torch's own reader: a shell runs

``NAMES`` lists all the names that torch and Megatron put there: another one is refused before it is imported.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from msm_hpc.base.errors import UserError

FILE = ".metadata"
NAMES = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.planner": {
        "BytesIOWriteData",
        "SavePlan",
        "TensorWriteData",
        "WriteItem",
        "WriteItemType",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
}
"""Names by module: classes that only hold what they are given, and a function that looks a word up."""

_DTYPE = re.compile(r"(b?float|u?int|complex)\d+(_\w+)?|bool")
_CHANGED = "somebody may have put it there to have code run; nothing was. See who can write there, and make it again"
_DAMAGED = (
    EOFError,
    pickle.UnpicklingError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    MemoryError,
    OverflowError,
)


class ForeignNameError(UserError):
    """A pickle names what has no place in it; nothing of it was called."""


def read_index(folder: Path) -> Any:
    """The index of the checkpoint in ``folder``, a ``torch.distributed.checkpoint.metadata.Metadata``.

    Raises:
        ForeignNameError: it names what no index has, or a file outside of ``folder``.
        UserError: it is damaged.
        OSError: it cannot be read.
    """
    file = folder / FILE
    try:
        with file.open("rb") as opened:
            index = _Unpickler(opened, file).load()
        parts = {place.relative_path for place in index.storage_data.values()}
        elsewhere = [part for part in parts if PurePath(part).name != part]
    except ForeignNameError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{file} cannot be read ({error}): the checkpoint is damaged; make it again") from error
    if elsewhere:
        raise ForeignNameError(f"{file} names {elsewhere[0]}, which is not in its folder: {_CHANGED}")
    return index


class _Unpickler(pickle.Unpickler):
    def __init__(self, opened: BinaryIO, file: Path) -> None:
        super().__init__(opened)
        self._file = file

    def find_class(self, module: str, name: str) -> Any:
        if name in NAMES.get(module, ()) or (module == "torch" and _DTYPE.fullmatch(name)):
            return super().find_class(module, name)
        raise ForeignNameError(f"{self._file} names {module}.{name}, which no checkpoint needs: {_CHANGED}")
