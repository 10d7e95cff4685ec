"""``manifest.json``: what an output folder was made from, and a hash of every file in it.

Each producer has its own frozen dataclass of figures with a field ``files``; this module writes it, and checks the
files of any folder against it later. ``manifest_sha256`` is the hash of all other lines of the manifest, so that no
byte of the folder can change unnoticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

import orjson

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of, write_bytes

NAME = "manifest.json"
OWN_HASH = "manifest_sha256"


@dataclass(frozen=True)
class FileRecord:
    """SHA-256 (hexadecimal) and size of one file."""

    sha256: str
    bytes: int


class Manifest(Protocol):
    """Any dataclass with records of files."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """File name, relative to the folder, to its record."""


class HashedFile:
    """A file that is hashed while it is written, so that its record needs no second reading."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._bytes = 0
        self._digest = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        self._bytes += self._file.write(data)
        self._digest.update(data)

    def record(self) -> FileRecord:
        """Hash and size of what was written so far."""
        return FileRecord(self._digest.hexdigest(), self._bytes)


def record_files(folder: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """The records of the named files that exist in ``folder``."""
    paths = [folder / name for name in names if (folder / name).is_file()]
    return {path.name: FileRecord(sha256_of(path), path.stat().st_size) for path in paths}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``folder/manifest.json``."""
    fields = orjson.loads(orjson.dumps(manifest))
    write_bytes(folder / NAME, _dump({**fields, OWN_HASH: _sha256_of_fields(fields)}))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The JSON object in ``folder/manifest.json``.

    Raises:
        UserError: there is none, it is not a JSON object with ``files``, or it is not as it was written.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a folder that `python -m tokenization` made")
    data = path.read_bytes()
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error}); make the folder again") from error
    if not isinstance(value, dict) or not isinstance(value.get("files"), dict):
        raise UserError(f"{path}: files: missing; make the folder again")
    own = value.pop(OWN_HASH, None)
    if own != _sha256_of_fields(value) or data != _dump({**value, OWN_HASH: own}):
        raise UserError(f"{path}: {OWN_HASH}: not the hash of the rest, so it was changed; make the folder again")
    return value


def content_sha256(folder: Path) -> str:
    """One hash of all files in the manifest of a folder; build metadata is excluded."""
    return _sha256_of_fields(read_manifest(folder)["files"])


def check_sizes(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """The manifest of a folder, whose files of these names are there or not, and of the size, as it says.

    Raises:
        UserError: one is not.
    """
    manifest, records = read_manifest(folder), _file_records(folder)
    for name in names:
        path, record = folder / name, records.get(name)
        size = path.stat().st_size if path.is_file() else None
        if size is None and record is not None:
            raise UserError(f"{path}: no such file, and {NAME} lists it; make the folder again")
        if size is not None and record is None:
            raise UserError(f"{path}: not in {NAME}, so of another folder; move it elsewhere")
        if record is not None and size != record.bytes:
            raise UserError(f"{path}: {size} bytes where {NAME} says {record.bytes}; make the folder again")
    return manifest


def check_files(folder: Path) -> int:
    """Hash every file again; returns how many were checked.

    Raises:
        UserError: a file is missing, differs from its record or has none (names all such files), or a record is
            malformed.
    """
    files = _file_records(folder)
    found = record_files(folder, files)
    unknown = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {*files, NAME}
    if unknown:
        raise UserError(f"{folder}: {', '.join(sorted(unknown))}: not in {NAME}; move it elsewhere")
    wrong = [
        f"{folder / name}: " + ("missing" if name not in found else f"its SHA-256 is not the one in {NAME}")
        for name, record in sorted(files.items())
        if name not in found or found[name] != record
    ]
    if wrong:
        raise UserError("; ".join(wrong) + "; make the folder again")
    return len(files)


def _dump(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _sha256_of_fields(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(_dump(fields)).hexdigest()


def _file_records(folder: Path) -> dict[str, FileRecord]:
    records: dict[str, FileRecord] = {}
    for name, record in read_manifest(folder)["files"].items():
        try:
            records[name] = FileRecord(**record)
        except TypeError as error:
            raise UserError(
                f"{folder / NAME}: files.{name}: expected an object with sha256 and bytes; make the folder again"
            ) from error
    return records
