"""The packed-shard format, writer and reader together.

A shard folder holds tokenised documents, one after another, in four files:

- ``shard.bin``: the token ids, uint16 or int32, documents end to end;
- ``shard.idx``: where each document lies. Both are Megatron-core's ``IndexedDataset``, one sequence a document, so
  ``IndexedDataset("folder/shard")`` opens them;
- ``shard.mask``: one uint8 a token: 1 where the token is a training *target* (its loss counts), else 0. Absent where
  there are only texts, of which every token is one;
- ``shard.chats``: one uint8 a document: 1 where it is a chat, which is never cut, else 0. Absent where none is.

For example the chat ``user: hi / assistant: yo`` lies in ``shard.bin`` as ``[<user> hi <assistant> yo <end>]`` and in
``shard.mask`` as ``[0 0 0 1 1]``. The mask is aligned with the tokens, *not* shifted: a trainer that predicts token
``i + 1`` from token ``i`` weighs that loss with ``mask[i + 1]``.

The shards of a corpus that was tokenised in N tasks lie in sub-folders ``0`` to ``N - 1`` of one folder; the shard of a
corpus of one task may also be the folder itself (:func:`shard_folders`).

An array task that no line of the corpus falls to writes a shard of no documents. Its ``shard.bin`` is empty, which
:class:`Shard` opens but Megatron-core's ``IndexedDataset`` cannot map; leave such shards out there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import atomic
from tokenization.encoded import Encoded
from tokenization.manifest import NAME, FileRecord, HashedFile, check_sizes

BIN, IDX, MASK, CHATS = "shard.bin", "shard.idx", "shard.mask", "shard.chats"
UINT16_VOCABULARY = 65_500
"""Below this vocabulary size Megatron-core stores uint16 (``DType.optimal_dtype``)."""

_HEADER = struct.Struct("<9sQBQQ")
_MAGIC, _VERSION = b"MMIDIDX\x00\x00", 1
_CHUNK = 1 << 20
_DTYPE_OF_CODE: dict[int, np.dtype[Any]] = {8: np.dtype(np.uint16), 4: np.dtype(np.int32)}
_CODE_OF_DTYPE = {dtype: code for code, dtype in _DTYPE_OF_CODE.items()}


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """What the tokens of a vocabulary are stored as."""
    return np.dtype(np.uint16 if vocab_size < UINT16_VOCABULARY else np.int32)


class ShardWriter:
    """Writes one shard folder; its files appear, whole, when the ``with`` block ends without an exception.

    Attributes:
        files: name to record of the files written, once the block has ended.
    """

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._folder = folder
        self._vocab_size = vocab_size
        self._dtype = token_dtype(vocab_size)
        self._lengths: list[NDArray[np.int32]] = []
        self._chats: list[NDArray[np.uint8]] = []
        self._tokens = 0
        self._open: dict[str, HashedFile] = {}
        self._stack = ExitStack()
        self.files: dict[str, FileRecord] = {}

    def __enter__(self) -> ShardWriter:
        self._create(BIN)
        return self

    def add(self, documents: Encoded, is_chat: NDArray[np.bool_]) -> None:
        """Append documents of at least one token each.

        Args:
            documents: tokens, lengths and loss mask.
            is_chat: (documents,) which of them are chats.
        """
        ids, mask = documents.ids, documents.mask
        assert len(is_chat) == len(documents.lengths) and documents.lengths.sum(dtype=np.int64) == len(ids)
        assert not len(ids) or (documents.lengths.min() > 0 and ids.min() >= 0 and ids.max() < self._vocab_size)
        self._open[BIN].write(ids.astype(self._dtype, copy=False).data)
        if mask is not None and MASK not in self._open:
            self._create(MASK)
            self._write_ones(self._tokens)
        if mask is not None:
            assert len(mask) == len(ids) and mask.dtype == np.uint8
            self._open[MASK].write(mask.data)
        elif MASK in self._open:
            self._write_ones(len(ids))
        self._lengths.append(documents.lengths)
        self._chats.append(is_chat.astype(np.uint8))
        self._tokens += len(ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._write_sidecars()
        self.files = {name: file.record() for name, file in self._open.items()}

    def _write_sidecars(self) -> None:
        lengths = np.concatenate([np.empty(0, np.int32), *self._lengths])
        chats = np.concatenate([np.empty(0, np.uint8), *self._chats])
        if chats.any():
            self._create(CHATS).write(chats.data)
        self._create(IDX).write(self._index(lengths))

    def _create(self, name: str) -> HashedFile:
        self._open[name] = HashedFile(self._stack.enter_context(atomic(self._folder / name)))
        return self._open[name]

    def _write_ones(self, count: int) -> None:
        for begin in range(0, count, _CHUNK):
            self._open[MASK].write(b"\x01" * min(_CHUNK, count - begin))

    def _index(self, lengths: NDArray[np.int32]) -> bytes:
        count = len(lengths)
        ends = np.cumsum(lengths, dtype=np.int64) * self._dtype.itemsize
        begins = np.concatenate([np.zeros(1, np.int64), ends])[:count]
        documents = np.arange(count + 1, dtype=np.int64)
        header = _HEADER.pack(_MAGIC, _VERSION, _CODE_OF_DTYPE[self._dtype], count, count + 1)
        return header + lengths.tobytes() + begins.tobytes() + documents.tobytes()


class Shard:
    """Memory-mapped reader of a shard folder; document ``i`` is ``tokens(i)`` with ``loss_mask(i)``.

    Whoever trains or packs takes :meth:`open`: without the manifest a lost mask looks like a shard of texts alone.

    Attributes:
        lengths: (documents,) int32, tokens in each document.

    Raises:
        UserError: a file is missing, is not of this format, or has not the size that the index says.
    """

    def __init__(self, folder: Path) -> None:
        dtype, self.lengths = _read_index(folder / IDX)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        self._begins = ends - self.lengths
        total = int(ends[-1]) if len(ends) else 0
        self._bin = folder / BIN
        self._tokens = _map(self._bin, dtype, total)
        self._mask = _map(folder / MASK, np.dtype(np.uint8), total) if (folder / MASK).exists() else None
        count = len(self.lengths)
        self._chats = _map(folder / CHATS, np.dtype(np.uint8), count) if (folder / CHATS).exists() else None

    @classmethod
    def open(cls, folder: Path) -> Shard:
        """The shard of a folder, checked against its manifest: its files and their sizes, its tokens and documents.

        Raises:
            UserError: as the class, or a file is not as the manifest says; make the folder again.
        """
        manifest = check_sizes(folder, (BIN, IDX, MASK, CHATS))
        shard = cls(folder)
        try:
            dtype = token_dtype(manifest["tokenizer"]["vocab_size"])
            expected = (manifest["tokens"], manifest["documents"] + manifest["chats"])
        except KeyError as error:
            raise UserError(
                f"{folder}: its manifest has no {error}, so another version made it; tokenise again"
            ) from error
        if shard._tokens.dtype != dtype:
            raise UserError(
                f"{folder / IDX}: of {shard._tokens.dtype} tokens, where the tokenizer in {NAME} makes {dtype}; "
                "tokenise again"
            )
        found = {"tokens": shard.total_tokens, "documents and chats": len(shard)}
        for (what, count), said in zip(found.items(), expected, strict=True):
            if count != said:
                raise UserError(f"{folder / IDX}: of {count} {what}, where {NAME} says {said}; tokenise again")
        return shard

    def __len__(self) -> int:
        return len(self.lengths)

    def tokens(self, document: int) -> NDArray[np.integer[Any]]:
        """(length,) token ids of one document, uint16 or int32: a read-only view of the file."""
        return self._tokens[self._span(document)]

    def read_tokens(self, document: int) -> NDArray[np.integer[Any]]:
        """The same as a copy, for who passes through a shard once: pages of a mapped file would stay in its memory."""
        span, dtype = self._span(document), self._tokens.dtype
        return np.fromfile(self._bin, dtype, span.stop - span.start, offset=span.start * dtype.itemsize)

    def loss_mask(self, document: int) -> NDArray[np.uint8]:
        """(length,) uint8, 1 where the token is a training target; not shifted."""
        if self._mask is None:
            return np.ones(self.lengths[document], np.uint8)
        return self._mask[self._span(document)]

    @property
    def total_tokens(self) -> int:
        """Tokens in all documents."""
        return len(self._tokens)

    def span(self, begin: int, end: int) -> tuple[NDArray[np.integer[Any]], NDArray[np.uint8]]:
        """Token ids and loss mask of the tokens ``[begin, end)`` of the shard, documents end to end."""
        mask = np.ones(end - begin, np.uint8) if self._mask is None else self._mask[begin:end]
        return self._tokens[begin:end], mask

    def encoded(self) -> Encoded:
        """All documents, as a writer takes them: read-only views of the files."""
        return Encoded(self._tokens, self.lengths, self._mask)

    def ends(self) -> NDArray[np.integer[Any]]:
        """(documents,) the last token of each."""
        return self._tokens[self._begins + self.lengths - 1] if len(self) else self._tokens

    def is_chat(self) -> NDArray[np.bool_]:
        """(documents,) True for a chat, False for a text."""
        return np.zeros(len(self), np.bool_) if self._chats is None else self._chats != 0

    def trainable(self) -> NDArray[np.int64]:
        """(documents,) int64, how many tokens of each document are training targets."""
        if self._mask is None or not len(self):
            return self.lengths.astype(np.int64)
        counts = np.empty(len(self), np.int64)
        for part in self._parts():
            begins = self._begins[part]
            mask = self._mask[begins[0] : begins[-1] + self.lengths[part.stop - 1]]
            counts[part] = np.add.reduceat(mask, begins - begins[0], dtype=np.int64)
        return counts

    def _parts(self) -> Iterator[slice]:
        """The documents in parts of about ``_CHUNK`` tokens: whole arrays of int64 would cost eight times the mask."""
        marks = np.arange(0, self.total_tokens, _CHUNK)
        edges = np.unique([*np.searchsorted(self._begins, marks), len(self)])
        return (slice(int(begin), int(end)) for begin, end in pairwise(edges))

    def _span(self, document: int) -> slice:
        begin = int(self._begins[document])
        return slice(begin, begin + int(self.lengths[document]))


def shard_folders(folder: Path) -> tuple[Path, ...]:
    """The shards of one source, in order: ``folder`` itself, or its sub-folders ``0`` to ``N - 1``.

    Raises:
        UserError: it is neither a shard nor has such sub-folders, or they are not numbered without gaps.
    """
    if (folder / IDX).is_file():
        return (folder,)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a shard folder, or the folder of the shards of all tasks")
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal())
    if not numbers:
        raise UserError(f"{folder}: neither a shard ({IDX}) nor sub-folders 0, 1, ... of shards; tokenise again")
    if numbers != list(range(len(numbers))):
        raise UserError(f"{folder}: its shards are {numbers}; number them 0 to {len(numbers) - 1}")
    return tuple(folder / str(number) for number in numbers)


def shards_by_key(sources: Mapping[str, Path]) -> dict[str, Path]:
    """Shard key ``"<source>/<index>"`` to folder, for all shards of all sources.

    Sources are in the order of their names with the ``/``, which decides how a plan numbers their documents.

    Args:
        sources: the name of each source to its folder; see :func:`shard_folders`.
    """
    names = sorted(sources, key=lambda source: f"{source}/")
    return {f"{name}/{index}": folder for name in names for index, folder in enumerate(shard_folders(sources[name]))}


def _read_index(path: Path) -> tuple[np.dtype[Any], NDArray[np.int32]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a whole shard folder, or tokenise again")
    size = path.stat().st_size
    if size < _HEADER.size:
        raise UserError(f"{path}: cut short ({size} bytes); tokenise again")
    with path.open("rb") as file:
        magic, version, code, count, documents = _HEADER.unpack(file.read(_HEADER.size))
    if (magic, version) != (_MAGIC, _VERSION) or code not in _DTYPE_OF_CODE:
        raise UserError(f"{path}: not a Megatron index of uint16 or int32 tokens; tokenise again")
    expected = _HEADER.size + 12 * count + 8 * documents
    if size != expected:
        raise UserError(f"{path}: {size} bytes where its header says {expected}; tokenise again")
    lengths = np.fromfile(path, np.int32, count, offset=_HEADER.size)
    if count and lengths.min() < 1:
        raise UserError(f"{path}: a document of {lengths.min()} tokens, so it is damaged; tokenise again")
    return _DTYPE_OF_CODE[code], lengths


def _map(path: Path, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a whole shard folder, or tokenise again")
    size, expected = path.stat().st_size, count * dtype.itemsize
    if size != expected:
        raise UserError(f"{path}: {size} bytes where {IDX} says {expected}; tokenise again")
    # As a plain array: slices of a memmap are slow.
    return np.memmap(path, dtype, mode="r").view(np.ndarray) if count else np.empty(0, dtype)
