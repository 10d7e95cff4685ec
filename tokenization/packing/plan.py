"""The pack plan on disk, writer and reader together.

A plan says of each training row which pieces of which documents it holds. It points into shards and holds no tokens:
``rows.npy`` has the (rows + 1,) offsets of the rows in ``pieces.npy``, an array of :data:`PIECE`. Documents are
numbered through all shards of the plan: with shards of 100 and 50 documents, number 103 is document 3 of the second.
Readers map both files, so a plan of a hundred million documents costs the ranks of a node no memory each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from tokenization.manifest import check_sizes, content_sha256, read_manifest
from tokenization.packing.bestfit import Filled
from tokenization.shards import Shard, shards_by_key

PIECES, ROWS = "pieces.npy", "rows.npy"
PIECE = np.dtype([("document", "<u4"), ("start", "<i4"), ("length", "<i4")])
"""Number of the document through all shards; first token within it; tokens."""
MOST_DOCUMENTS = 1 << 32
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Piece:
    """Tokens ``[start, start + length)`` of document ``document`` of the shard with key ``shard``."""

    shard: str
    document: int
    start: int
    length: int


@dataclass(frozen=True)
class ShardRecord:
    """A shard of a plan, as listed in the manifest.

    Attributes:
        key: ``"<source>/<index>"``.
        documents: how many it has.
        sha256: of its files; see :func:`tokenization.manifest.content_sha256`.
    """

    key: str
    documents: int
    sha256: str


class Numbering:
    """The documents of some shards, numbered through."""

    def __init__(self, shards: Sequence[ShardRecord]) -> None:
        self._keys = [shard.key for shard in shards]
        self._firsts = [0, *accumulate(shard.documents for shard in shards)]

    def locate(self, document: int) -> tuple[str, int]:
        """The key of a document's shard, and its number within that."""
        shard = bisect_right(self._firsts, document) - 1
        return self._keys[shard], document - self._firsts[shard]

    def spans(self) -> Iterator[tuple[str, int, int]]:
        """The key of each shard, its first document, and one past its last."""
        for key, (first, end) in zip(self._keys, pairwise(self._firsts), strict=True):
            yield key, first, end


@dataclass(frozen=True)
class Pieces:
    """What is put into rows: (pieces,) arrays like the fields of :data:`PIECE`."""

    document: NDArray[np.uint32]
    start: NDArray[np.int32]
    length: NDArray[np.int32]


class Plan:
    """Reader of a pack folder; ``row(i)`` is the pieces of training row ``i``, in order.

    Attributes:
        sequence_length: most tokens in a row.
        eod_id: ends every document.
        pad_id: fills a row up; never ``eod_id``.
        tokenizer_sha256: of the ``tokenizer.json`` that the shards were made with.
        shards: shard keys, ``"<source>/<index>"``.

    Raises:
        UserError: the folder has no plan, or one of its files is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._rows, self._pieces = _map(folder / ROWS, np.dtype(np.int64)), _map(folder / PIECES, PIECE)
        if self._rows[-1] != len(self._pieces):
            raise UserError(f"{folder / PIECES}: not of the {ROWS} beside it; pack again")
        manifest = read_manifest(folder)
        try:
            self.sequence_length: int = manifest["sequence_length"]
            self.eod_id: int = manifest["tokenizer"]["eod_id"]
            self.pad_id: int = manifest["tokenizer"]["pad_id"]
            self.tokenizer_sha256: str = manifest["tokenizer"]["tokenizer_sha256"]
            records = [ShardRecord(**record) for record in manifest["shards"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{folder}: its manifest is not a plan's ({error}); pack again") from error
        check_sizes(folder, (ROWS, PIECES))
        self._folder, self._records = folder, records
        self.shards = [record.key for record in records]
        self._numbering = Numbering(records)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows) - 1

    @property
    def sources(self) -> list[str]:
        """The names of the sources that its shards are of."""
        return list(dict.fromkeys(key.rpartition("/")[0] for key in self.shards))

    @property
    def total_tokens(self) -> int:
        """Tokens in all rows, without padding."""
        return int(self._pieces["length"].sum(dtype=np.int64))

    def longest_row(self, multiple: int) -> int:
        """Most tokens of a row, if each of its pieces is padded to a multiple of ``multiple`` tokens."""
        longest = 0
        for first in range(0, len(self), _ROWS_AT_ONCE):
            begins = self._rows[first : first + _ROWS_AT_ONCE + 1]
            lengths = self._pieces["length"][begins[0] : begins[-1]].astype(np.int64)
            padded = -(-lengths // multiple) * multiple
            longest = max(longest, int(np.add.reduceat(padded, begins[:-1] - begins[0]).max()))
        return longest

    def folders(self, sources: Mapping[str, Path]) -> dict[str, Path]:
        """The folders of the plan's shards, by key.

        Args:
            sources: the name of each source to its folder; see :func:`tokenization.shards.shard_folders`.

        Raises:
            UserError: a shard is not given, or is not the one that was packed.
        """
        folders = shards_by_key({source: sources[source] for source in self.sources if source in sources})
        if missing := [key for key in self.shards if key not in folders]:
            raise UserError(f"{self._folder}: its rows hold documents of {', '.join(missing)}; give these shards too")
        if more := [key for key in folders if key not in self.shards]:
            raise UserError(f"{self._folder}: was packed without {', '.join(more)}; give what it was packed from")
        for record in self._records:
            if content_sha256(folders[record.key]) != record.sha256:
                raise UserError(
                    f"{folders[record.key]}: not the shard {record.key} that {self._folder} was packed from; give that "
                    "one, or pack again"
                )
        return folders

    def open_shards(self, sources: Mapping[str, Path]) -> dict[str, Shard]:
        """The plan's shards, by key; as :meth:`folders`."""
        return {key: Shard.open(folder) for key, folder in self.folders(sources).items()}

    def row(self, index: int) -> list[Piece]:
        """The pieces of one row; their lengths sum to at most ``sequence_length``."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        begin, end = self._rows[index : index + 2]
        return [
            Piece(*self._numbering.locate(document), start, length)
            for document, start, length in self._pieces[begin:end].tolist()
        ]


def write_plan(folder: Path, pieces: Pieces, filled: Filled, order: NDArray[np.int64]) -> None:
    """Write ``rows.npy`` and ``pieces.npy``: of the rows of ``filled``, the one numbered ``order[i]`` as row ``i``."""
    offsets = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.diff(filled.offsets)[order], out=offsets[1:])
    np.save(folder / ROWS, offsets)
    with (folder / PIECES).open("wb") as file:
        header: Mapping[str, Any] = {"descr": PIECE.descr, "fortran_order": False, "shape": (len(filled.pieces),)}
        np.lib.format.write_array_header_1_0(file, dict(header))
        for number in _numbers(filled, order):
            some = np.empty(len(number), PIECE)
            some["document"], some["start"] = pieces.document[number], pieces.start[number]
            some["length"] = pieces.length[number]
            file.write(some.tobytes())


def _numbers(filled: Filled, order: NDArray[np.int64]) -> Iterator[NDArray[np.uint32]]:
    """The pieces of the rows in that order, some rows at a time."""
    for first in range(0, len(order), _ROWS_AT_ONCE):
        rows = order[first : first + _ROWS_AT_ONCE]
        begins, sizes = filled.offsets[rows], filled.offsets[rows + 1] - filled.offsets[rows]
        ends = np.cumsum(sizes)
        yield filled.pieces[np.arange(ends[-1]) + np.repeat(begins - (ends - sizes), sizes)]


def _map(path: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a pack folder")
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r").view(np.ndarray)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}); pack again") from error
    if array.dtype != dtype or array.ndim != 1 or not len(array):
        raise UserError(f"{path}: damaged ({array.dtype} of shape {array.shape}); pack again")
    return array
