"""Shard folders written straight from tokens, with the manifest that packing asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tokenization.documents import TokenizerFacts
from tokenization.encoded import Encoded
from tokenization.manifest import FileRecord, record_files, write_manifest
from tokenization.shards import BIN, CHATS, IDX, MASK, ShardWriter

EOD, PAD = 0, 1
FACTS = TokenizerFacts(tokenizer_sha256="of-no-file", template_sha256=None, vocab_size=1000, eod_id=EOD, pad_id=PAD)


@dataclass(frozen=True)
class Doc:
    """A text, or a chat whose first half is no training target."""

    tokens: Sequence[int]
    is_chat: bool = False

    @property
    def mask(self) -> list[int]:
        return [int(not self.is_chat or place >= len(self.tokens) // 2) for place in range(len(self.tokens))]


@dataclass(frozen=True)
class ShardFacts:
    """What packing reads of a shard's manifest."""

    tokenizer: TokenizerFacts
    source: str
    task: int
    tasks: int
    documents: int
    chats: int
    tokens: int
    trainable_tokens: int
    files: Mapping[str, FileRecord]
    turns: str = "as_printed"
    rows: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)


def text(length: int, first: int = 10) -> Doc:
    """A text of counted tokens, EOD included."""
    return Doc([*(first + place % 900 for place in range(length - 1)), EOD])


def chat(length: int, first: int = 10) -> Doc:
    return Doc(text(length, first).tokens, is_chat=True)


def write_shard(
    folder: Path, documents: Sequence[Doc], facts: TokenizerFacts = FACTS, task: int = 0, tasks: int = 1
) -> Path:
    folder.mkdir(parents=True)
    with ShardWriter(folder, facts.vocab_size) as shard:
        for doc in documents:
            tokens, mask = np.array(doc.tokens, np.int32), np.array(doc.mask, np.uint8)
            shard.add(
                Encoded(tokens, np.array([len(tokens)], np.int32), mask if doc.is_chat else None),
                np.array([doc.is_chat]),
            )
    chats, tokens = sum(doc.is_chat for doc in documents), sum(len(doc.tokens) for doc in documents)
    counts = (len(documents) - chats, chats, tokens, sum(sum(doc.mask) for doc in documents))
    files = record_files(folder, [BIN, IDX, MASK, CHATS])
    write_manifest(folder, ShardFacts(facts, str(folder.parent), task, tasks, *counts, files, rows=len(documents)))
    return folder


def write_source(
    root: Path, name: str, documents: Sequence[Doc], tasks: int = 1, facts: TokenizerFacts = FACTS
) -> Path:
    """The folder of a source: a shard for each task, with an equal share of the documents."""
    bounds = [len(documents) * task // tasks for task in range(tasks + 1)]
    folder = root / f"{name}-of-{tasks}"
    for task in range(tasks):
        write_shard(folder / str(task), documents[bounds[task] : bounds[task + 1]], facts, task, tasks)
    return folder
