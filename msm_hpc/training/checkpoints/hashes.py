"""``hashes.json`` in a checkpoint: size and XXH3 of each of its files, as they were written.

The sizes show whether a checkpoint is being deleted; the hashes, whether it is damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.files import write_json
from msm_hpc.base.hashes import each, xxh3_of
from msm_hpc.base.typed_json import read_if_whole

HASHES = "hashes.json"


@dataclass(frozen=True)
class FileHash:
    """Of one file."""

    xxh3: str
    bytes: int


_FORMAT = dict[str, FileHash]


def hash_of(file: Path) -> FileHash:
    """Hash a file that was just written: it is still in the page cache."""
    return FileHash(xxh3_of(file), file.stat().st_size)


def write_hashes(folder: Path, known: Mapping[str, FileHash]) -> None:
    """Write the hashes of every file in ``folder``, of which ``known`` are known by name."""
    found = {file.name: known.get(file.name) or hash_of(file) for file in folder.iterdir()}
    write_json(folder / HASHES, {name: asdict(value) for name, value in found.items()})


def is_whole(folder: Path) -> bool:
    """Whether every file of a checkpoint is there, in its size; reads none of them."""
    expected = read_if_whole(folder / HASHES, _FORMAT)
    return expected is not None and all(_size(folder / name) == value.bytes for name, value in expected.items())


def damage(folder: Path, share: int = 0, shares: int = 1) -> str | None:
    """How a checkpoint differs from what was written, if it does; reads every so many-th of its files."""
    expected = read_if_whole(folder / HASHES, _FORMAT)
    if expected is None:
        return f"{HASHES} is missing or damaged"
    names = sorted(expected)[share::shares]
    found = each(lambda name: _difference(folder / name, expected[name]), names) if names else []
    return next((difference for difference in found if difference), None)


def _difference(file: Path, expected: FileHash) -> str | None:
    try:
        if (size := file.stat().st_size) != expected.bytes:
            return f"{file.name} has {size:,} bytes, {expected.bytes:,} were written"
        if (found := xxh3_of(file)) != expected.xxh3:
            return f"{file.name} is damaged: its XXH3 is {found}, {expected.xxh3} was written"
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    return None


def _size(file: Path) -> int | None:
    return file.stat().st_size if file.exists() else None
