"""What can be known of shard and pack folders without the corpus they came from.

Of each folder every file is hashed again. Shards are then read whole: counts, EOD, ids, masks and records must be as
the manifest says. The shards of one corpus are looked at in the order of their tasks, whatever the order they are given
in: no id may come twice in them, and, if they are all there, they get one hash of their common content, which is the
same for whatever number of tasks the corpus was tokenised with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from tokenization.documents import DOCUMENTS, DocumentRecord, read_documents, share_of
from tokenization.manifest import check_files, read_manifest
from tokenization.packing.plan import PIECES, Plan
from tokenization.shards import IDX, Shard

_TOKENS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class CorpusContent:
    """What the shards of one corpus hold.

    Attributes:
        corpus: as it was named when it was tokenised.
        missing: tasks whose shards were not given.
        sha256: of ids, lengths, loss masks and records of all shards, end to end; None where one is missing.
    """

    corpus: str
    missing: tuple[int, ...]
    documents: int
    tokens: int
    trainable_tokens: int
    sha256: str | None


@dataclass(frozen=True)
class Verified:
    """What was found to be right; ``files`` is how many were hashed."""

    files: int
    corpora: tuple[CorpusContent, ...]


def verify(folders: Sequence[Path]) -> Verified:
    """Check shard and pack folders.

    Raises:
        UserError: a file is missing or not as it was written, a figure is not as the manifest says, or two documents of
            a corpus have one id; names the folder, the file and the document.
    """
    files = sum(check_files(folder) for folder in folders)
    for folder in folders:
        if (folder / PIECES).exists():
            _check_plan(folder)
    shards = sorted(
        (_ShardFolder(folder) for folder in folders if (folder / IDX).exists()), key=lambda folder: folder.share
    )
    return Verified(files, tuple(_check_corpus(list(group)) for _, group in groupby(shards, key=_ShardFolder.corpus)))


class _ShardFolder:
    def __init__(self, path: Path) -> None:
        self.path, self.share, self.manifest, self.shard = path, share_of(path), read_manifest(path), Shard.open(path)

    def corpus(self) -> tuple[str, int]:
        """Shards with equal ones are of one tokenisation of one corpus."""
        return self.share.source, self.share.tasks


class _Content:
    """Hashes and counts over shards, in order."""

    def __init__(self) -> None:
        self.documents = self.tokens = self.trainable_tokens = 0
        self._ids, self._lengths, self._masks, self._records = (hashlib.sha256() for _ in range(4))

    def add(self, ids: NDArray[np.integer[Any]], mask: NDArray[np.uint8]) -> None:
        self._ids.update(np.ascontiguousarray(ids, np.int32).data)
        self._masks.update(np.ascontiguousarray(mask).data)
        self.tokens += len(ids)
        self.trainable_tokens += int(mask.sum(dtype=np.int64))

    def add_records(self, lengths: NDArray[np.int32], path: Path) -> None:
        self._lengths.update(np.ascontiguousarray(lengths).data)
        with path.open("rb") as file:
            while block := file.read(_TOKENS_AT_ONCE):
                self._records.update(block)
        self.documents += len(lengths)

    def sha256(self) -> str:
        parts = (self._ids, self._lengths, self._masks, self._records)
        return hashlib.sha256(b"".join(part.digest() for part in parts)).hexdigest()


def _check_corpus(folders: Sequence[_ShardFolder]) -> CorpusContent:
    content = _Content()
    for folder in folders:
        _check_shard(folder, content)
    _check_ids(folders)
    source, tasks = folders[0].corpus()
    missing = tuple(sorted(set(range(tasks)) - {folder.share.task for folder in folders}))
    digest = None if missing else content.sha256()
    return CorpusContent(source, missing, content.documents, content.tokens, content.trainable_tokens, digest)


def _check_shard(folder: _ShardFolder, content: _Content) -> None:
    path, manifest, shard = folder.path, folder.manifest, folder.shard
    vocab_size, eod_id = manifest["tokenizer"]["vocab_size"], manifest["tokenizer"]["eod_id"]
    tokens, trainable = content.tokens, content.trainable_tokens
    for ids, mask in _blocks(shard):
        if int(ids.min()) < 0 or int(ids.max()) >= vocab_size or int(mask.max()) > 1:
            raise UserError(f"{path}: a token is not in the vocabulary, or a mask not 0 or 1; make the folder again")
        content.add(ids, mask)
    content.add_records(shard.lengths, path / DOCUMENTS)
    not_ended = np.flatnonzero(shard.ends() != eod_id)
    if len(not_ended):
        raise UserError(f"{path}: document {not_ended[0]} does not end with EOD ({eod_id}); make the folder again")
    kinds = [record.kind == "chat" for record in read_documents(path)]
    if kinds != shard.is_chat().tolist():
        raise UserError(f"{path / DOCUMENTS}: not of the documents that the shard holds; make the folder again")
    found = {
        "documents": len(kinds) - sum(kinds),
        "chats": sum(kinds),
        "tokens": content.tokens - tokens,
        "trainable_tokens": content.trainable_tokens - trainable,
    }
    for name, count in found.items():
        if manifest[name] != count:
            raise UserError(f"{path}: holds {count} {name}, its manifest says {manifest[name]}; make the folder again")


def _blocks(shard: Shard) -> Iterator[tuple[NDArray[np.integer[Any]], NDArray[np.uint8]]]:
    """Ids and mask of a million tokens at a time."""
    for begin in range(0, shard.total_tokens, _TOKENS_AT_ONCE):
        yield shard.span(begin, min(begin + _TOKENS_AT_ONCE, shard.total_tokens))


def _check_ids(folders: Sequence[_ShardFolder]) -> None:
    """Eight bytes of hash an id, so that a hundred million fit in memory; equal hashes are then looked at."""
    ordered = np.sort(np.fromiter((_short_hash(record.id) for _, _, record in _records(folders)), np.uint64))
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    first: dict[str, str] = {}
    for path, index, record in _records(folders) if twice else ():
        if _short_hash(record.id) in twice:
            place = f"{path} document {index}"
            if record.id in first:
                raise UserError(f"{place}: id {record.id!r} is the id of {first[record.id]} too; give each row its own")
            first[record.id] = place


def _records(folders: Sequence[_ShardFolder]) -> Iterator[tuple[Path, int, DocumentRecord]]:
    for folder in folders:
        for index, record in enumerate(read_documents(folder.path)):
            yield folder.path, index, record


def _short_hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _check_plan(folder: Path) -> None:
    manifest, plan = read_manifest(folder), Plan(folder)
    if len(plan) != manifest["rows"] or plan.total_tokens != manifest["tokens"]:
        raise UserError(
            f"{folder}: holds {len(plan)} rows of {plan.total_tokens} tokens, its manifest says {manifest['rows']} of "
            f"{manifest['tokens']}; pack again"
        )
