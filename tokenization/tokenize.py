"""One tokenise task: its share of a corpus to a shard folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec
import numpy as np
import orjson

from msm_hpc.base.errors import UserError
from tokenization.documents import DOCUMENTS, ShardManifest, TurnsTrained
from tokenization.encoder import EncodedRows, RowEncoder
from tokenization.engines.sample import Inexact
from tokenization.manifest import record_files, write_manifest
from tokenization.reading.corpus import Corpus, Share
from tokenization.reading.formats import Format, RowShape
from tokenization.reading.prefetch import prefetch
from tokenization.reading.rejects import REJECTED, Rejects
from tokenization.reading.rows import BadRow, ChatRow, DocumentRow, Row
from tokenization.shards import ShardWriter
from tokenization.tokenizer import TokenizerFolder
from tokenization.unknown import SampleCheck, check_known

BATCHES_AHEAD = 2

ReportProgress = Callable[[int, int], None]
"""Called with how much of the share is done, and how much there is."""


@dataclass(frozen=True, kw_only=True)
class TokenizeConfig:
    """Task ``task`` of ``tasks``, counted from 0.

    Attributes:
        format: how rows are written, as in :mod:`tokenization.reading.formats`.
        columns: a field of the format to the name that it has in the rows.
        cot: whether the ``<think>`` blocks of the assistant are training targets.
        turns: ``as_printed`` makes one sequence of a chat, and leaves out of the loss those turns of the assistant that
            the template prints differently once later turns follow. ``each_by_its_prefix`` makes one sequence of each
            turn of the assistant: the chat up to that turn, which alone is a target.
        special_text: whether the text of a special token in a document becomes that token. In chats it never does.
        on_bad: what a row that cannot be used does: ``stop`` the task, or be skipped, counted and listed.
        max_bad: with ``skip``, the share of the task's rows past which it stops; one row is always allowed.
    """

    task: int = 0
    tasks: int = 1
    format: Format = "plain"
    columns: Mapping[str, str] = field(default_factory=dict)
    cot: Literal["train", "mask"] = "train"
    turns: TurnsTrained = "as_printed"
    special_text: bool = False
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: float = 0.001

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise UserError(f"tasks is {self.tasks}: it must be at least 1")
        if not 0 <= self.task < self.tasks:
            raise UserError(f"task is {self.task} of {self.tasks}: it must be 0 to {self.tasks - 1}")
        if not 0 <= self.max_bad <= 1:
            raise UserError(f"max_bad is {self.max_bad}: it must be from 0 to 1, as a share of the rows")


@dataclass(frozen=True, kw_only=True)
class TokenizeInputs:
    """What is tokenised: anything that :meth:`Corpus.open` takes, and the folder of a tokenizer."""

    corpus: Path
    tokenizer: Path


@dataclass
class _Counts:
    rows: int = 0
    documents: int = 0
    chats: int = 0
    tokens: int = 0
    trainable_tokens: int = 0
    unknown_tokens: int = 0
    assistant_turns: int = 0
    trained_turns: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, rows: EncodedRows, unknown_id: int | None) -> None:
        chats, mask = int(rows.is_chat.sum()), rows.encoded.mask
        self.chats += chats
        self.documents += len(rows.is_chat) - chats
        self.tokens += len(rows.encoded.ids)
        self.assistant_turns += rows.assistant_turns
        self.trained_turns += rows.trained_turns
        if unknown_id is not None:
            self.unknown_tokens += int((rows.encoded.ids == unknown_id).sum())
        self.trainable_tokens += len(rows.encoded.ids) if mask is None else int(mask.sum(dtype=np.int64))


def run(config: TokenizeConfig, inputs: TokenizeInputs, out: Path, progress: ReportProgress | None = None) -> None:
    """Write the shard, ``documents.jsonl``, ``rejected.jsonl`` if a row was skipped, and ``manifest.json``.

    Args:
        config: which share of the corpus, and how to treat its rows.
        inputs: the corpus and the tokenizer.
        out: an existing folder.
        progress: is called after each batch.

    Raises:
        UserError: a row of the corpus or the tokenizer cannot be used, or the tokenizer does not know the text.
    """
    corpus = Corpus.open(inputs.corpus, RowShape(config.format, config.columns))
    tokenizer = TokenizerFolder(inputs.tokenizer)
    try:
        _tokenize(config, corpus, tokenizer, out, progress)
    except Inexact as error:
        _tokenize(config, corpus, tokenizer, out, progress, str(error))


def _tokenize(
    config: TokenizeConfig,
    corpus: Corpus,
    tokenizer: TokenizerFolder,
    out: Path,
    progress: ReportProgress | None,
    why_slow: str | None = None,
) -> None:
    share = corpus.share(config.task, config.tasks)
    encoder = RowEncoder(tokenizer, share.bytes, config.cot, config.turns, config.special_text, why_slow)
    with ShardWriter(out, tokenizer.facts.vocab_size) as shard:
        counts = _write(config, share, encoder, shard, out, progress)
    check_known(tokenizer, counts.unknown_tokens, counts.tokens)
    manifest = ShardManifest(
        source=corpus.name,
        task=config.task,
        tasks=config.tasks,
        cot=config.cot,
        turns=config.turns,
        special_text=config.special_text,
        corpus=share.inputs(),
        tokenizer=tokenizer.facts,
        engine=encoder.engine,
        rows=counts.rows,
        documents=counts.documents,
        chats=counts.chats,
        tokens=counts.tokens,
        trainable_tokens=counts.trainable_tokens,
        unknown_tokens=counts.unknown_tokens,
        assistant_turns=counts.assistant_turns,
        trained_turns=counts.trained_turns,
        rejected=dict(sorted(counts.rejected.items())),
        files=shard.files | record_files(out, [DOCUMENTS, REJECTED]),
    )
    write_manifest(out, manifest)


def _write(
    config: TokenizeConfig,
    share: Share,
    encoder: RowEncoder,
    shard: ShardWriter,
    out: Path,
    progress: ReportProgress | None,
) -> _Counts:
    counts, sample = _Counts(), SampleCheck(encoder.tokenizer)
    with (out / DOCUMENTS).open("wb") as records, Rejects(out, config.on_bad, config.max_bad) as rejects:
        counts.rejected = rejects.counts
        for batch in prefetch(share.batches(), BATCHES_AHEAD):
            counts.rows += len(batch)
            rows = _usable(batch, rejects)
            if config.turns == "each_by_its_prefix":
                rows = [sequence for row in rows for sequence in by_turn(row)]
            sample.check([text for row in rows for text in _texts(row)])
            encoded = encoder.encode(rows)
            for error in encoded.rejected.values():
                rejects.add(error)
            shard.add(encoded.encoded, encoded.is_chat)
            _write_records([row for number, row in enumerate(rows) if number not in encoded.rejected], records)
            counts.add(encoded, encoder.tokenizer.unknown_id)
            rejects.check(counts.rows, finished=False)
            if progress is not None:
                progress(share.done, share.bytes)
        rejects.check(counts.rows, finished=True)
    return counts


def _usable(batch: Sequence[Row | BadRow], rejects: Rejects) -> list[Row]:
    rows: list[Row] = []
    for row in batch:
        if isinstance(row, BadRow):
            rejects.add(row)
        else:
            rows.append(row)
    return rows


def _texts(row: Row) -> list[str]:
    return [row.text] if isinstance(row, DocumentRow) else [message.content for message in row.messages]


def by_turn(row: Row) -> list[Row]:
    """A chat up to each turn of the assistant, as rows ``ID#0`` to ``ID#N``; ``ID`` where there is one turn.

    A chat in which the assistant has no turn, and a document, come back as they are.
    """
    if isinstance(row, DocumentRow):
        return [row]
    ends = [place for place, message in enumerate(row.messages, start=1) if message.role == "assistant"]
    names = [row.id] if len(ends) == 1 else [f"{row.id}#{turn}" for turn in range(len(ends))]
    chats = zip(names, ends, strict=True)
    return [msgspec.structs.replace(row, id=name, messages=row.messages[:end]) for name, end in chats] or [row]


def _write_records(rows: Sequence[Row], file: BinaryIO) -> None:
    """Provenance is copied as it was written, not decoded and encoded."""
    for row in rows:
        kind = b"chat" if isinstance(row, ChatRow) else b"document"
        file.write(b'{"id":%b,"kind":"%b","provenance":%b}\n' % (orjson.dumps(row.id), kind, row.provenance))
