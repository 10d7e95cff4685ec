"""One tokenise task: its share of a corpus to a shard folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson

from tokenization.corpus import Chat, Row, byte_range, read_rows
from tokenization.documents import DOCUMENTS, CorpusRange, DocumentRecord, ShardManifest
from tokenization.errors import BadInput
from tokenization.manifest import record_files, sha256_of, write_manifest
from tokenization.shards import BIN, IDX, MASK, ShardWriter
from tokenization.tokenizer import DocumentTokenizer

CORPUS = "data.jsonl"
BATCH_BYTES = 4 << 20
"""Corpus bytes encoded at once: enough to keep the tokenizer's threads busy, little memory."""


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """Task ``task`` of ``tasks``, counted from 0."""

    task: int = 0
    tasks: int = 1

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise BadInput(f"tasks is {self.tasks}: it must be at least 1")
        if not 0 <= self.task < self.tasks:
            raise BadInput(f"task is {self.task} of {self.tasks}: it must be 0 to {self.tasks - 1}")


@dataclass
class _Counts:
    documents: int = 0
    chats: int = 0
    tokens: int = 0
    trainable_tokens: int = 0


def run(config: TokenizeConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Write the shard, ``documents.jsonl`` and ``manifest.json``.

    Args:
        config: which share of the corpus.
        inputs: ``corpus``, a folder with ``data.jsonl`` or such a file; ``tokenizer``, a folder.
        out: an existing folder.

    Raises:
        BadInput: a row of the corpus or the tokenizer cannot be used.
    """
    corpus = inputs["corpus"] / CORPUS if inputs["corpus"].is_dir() else inputs["corpus"]
    if not corpus.is_file():
        raise BadInput(f"{corpus}: {'not a file' if corpus.exists() else 'no such file'}; generate the corpus first")
    if corpus.stat().st_size == 0:
        raise BadInput(f"{corpus}: empty; generate the corpus first")
    tokenizer = DocumentTokenizer(inputs["tokenizer"])
    begin, end = byte_range(corpus, config.task, config.tasks)
    counts = _write(tokenizer, read_rows(corpus, begin, end), out)
    manifest = ShardManifest(
        task=config.task,
        tasks=config.tasks,
        corpus=CorpusRange(begin, end, corpus.stat().st_size, sha256_of(corpus, begin, end)),
        tokenizer=tokenizer.facts,
        documents=counts.documents,
        chats=counts.chats,
        tokens=counts.tokens,
        trainable_tokens=counts.trainable_tokens,
        files=record_files(out, [BIN, IDX, MASK, DOCUMENTS]),
    )
    write_manifest(out, manifest)


def _write(tokenizer: DocumentTokenizer, rows: Iterable[Row], out: Path) -> _Counts:
    counts = _Counts()
    with ShardWriter(out, tokenizer.facts.vocab_size) as shard, (out / DOCUMENTS).open("wb") as records:
        for batch in _batches(rows):
            for row, encoded in zip(batch, tokenizer.encode(batch), strict=True):
                is_chat = isinstance(row, Chat)
                record = DocumentRecord(row.id, "chat" if is_chat else "document", row.provenance)
                shard.add(encoded.tokens, encoded.mask)
                records.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
                counts.chats += is_chat
                counts.documents += not is_chat
                counts.tokens += len(encoded.tokens)
                counts.trainable_tokens += int(encoded.mask.sum())
    return counts


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        if batch and row.place.offset - batch[0].place.offset >= BATCH_BYTES:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
