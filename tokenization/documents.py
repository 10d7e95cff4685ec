"""The records of tokenised documents: ``documents.jsonl``, and the manifest of the shard that they are in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import orjson

from msm_hpc.base.errors import UserError
from tokenization.manifest import FileRecord, read_manifest
from tokenization.reading.readers import InputRecord

DOCUMENTS = "documents.jsonl"
TurnsTrained: TypeAlias = Literal["as_printed", "each_by_its_prefix"]
"""Which of the assistant's turns are targets; see :class:`tokenization.tokenize.TokenizeConfig`."""


@dataclass(frozen=True)
class DocumentRecord:
    """Line ``i`` of ``documents.jsonl``: document ``i`` of the shard.

    Attributes:
        provenance: the fields of the corpus row other than ``id``, ``text`` and ``messages``.
    """

    id: str
    kind: Literal["document", "chat"]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class TokenizerFacts:
    """What must be equal for shards to be packed together; texts never begin with BOS, whatever the tokenizer.

    Attributes:
        template_sha256: of the chat template's text; None where the tokenizer has none.
        vocab_size: one more than the largest token id.
        eod_id: ends every document.
        pad_id: fills rows; never ``eod_id``, which is a training target.
    """

    tokenizer_sha256: str
    template_sha256: str | None
    vocab_size: int
    eod_id: int
    pad_id: int


@dataclass(frozen=True)
class EngineRecord:
    """What encoded the texts.

    Attributes:
        name: package and version.
        why_not_fast: why it is the reference; None where it is the fast engine.
        checked_texts: of how many texts of the corpus the ends were encoded by the reference too, and compared.
    """

    name: str
    why_not_fast: str | None
    checked_texts: int


@dataclass(frozen=True)
class ShardManifest:
    """``manifest.json`` of a shard folder; the counts are of this task alone.

    Attributes:
        source: the corpus, as it was named.
        cot: whether the assistant's ``<think>`` blocks are training targets.
        turns: which of the assistant's turns were to be targets.
        special_text: whether special-token text in documents became special tokens.
        corpus: what was read, with its hashes.
        rows: of the corpus that were read, those skipped included.
        documents: sequences made of texts, one of each.
        chats: sequences made of chats: one of each, or with ``each_by_its_prefix`` one of each turn of the assistant.
        unknown_tokens: words that the tokenizer does not know, where it has a token for these.
        assistant_turns: turns of the assistant that were to be targets.
        trained_turns: those that are; the chat template prints the others differently once later turns follow.
        rejected: reason to the number of rows skipped, a chat of which any turn was included; ``rejected.jsonl`` lists
            them.
    """

    source: str
    task: int
    tasks: int
    cot: Literal["train", "mask"]
    turns: TurnsTrained
    special_text: bool
    corpus: tuple[InputRecord, ...]
    tokenizer: TokenizerFacts
    engine: EngineRecord
    rows: int
    documents: int
    chats: int
    tokens: int
    trainable_tokens: int
    unknown_tokens: int
    assistant_turns: int
    trained_turns: int
    rejected: Mapping[str, int]
    files: Mapping[str, FileRecord]


def read_documents(folder: Path) -> Iterator[DocumentRecord]:
    """The records of a shard folder, in document order.

    Raises:
        UserError: the file is missing, or a line is not a record.
    """
    for document, line in enumerate(_lines(folder)):
        yield _record(folder, document, line)


def read_some(folder: Path, documents: Set[int]) -> dict[int, DocumentRecord]:
    """The records of some documents of a shard folder, by number; only their lines are parsed, none after them read.

    Raises:
        UserError: as :func:`read_documents`.
    """
    lines = enumerate(islice(_lines(folder), max(documents, default=-1) + 1))
    return {document: _record(folder, document, line) for document, line in lines if document in documents}


def read_document(folder: Path, document: int) -> DocumentRecord:
    """The record of one document of a shard folder."""
    return read_some(folder, {document})[document]


def _lines(folder: Path) -> Iterator[bytes]:
    path = folder / DOCUMENTS
    if not path.is_file():
        raise UserError(f"{path}: no such file; tokenise again")
    with path.open("rb") as file:
        yield from file


def _record(folder: Path, document: int, line: bytes) -> DocumentRecord:
    try:
        return DocumentRecord(**orjson.loads(line))
    except (orjson.JSONDecodeError, TypeError) as error:
        where = f"{folder / DOCUMENTS}:{document + 1}"
        raise UserError(f"{where}: not a document record ({error}); tokenise again") from error


@dataclass(frozen=True, order=True)
class ShareFacts:
    """Which task of how many made a shard, of which corpus."""

    source: str
    tasks: int
    task: int


def share_of(folder: Path) -> ShareFacts:
    """Which share of which corpus a shard folder holds.

    Raises:
        UserError: the folder's manifest does not say.
    """
    manifest = read_manifest(folder)
    try:
        return ShareFacts(manifest["source"], manifest["tasks"], manifest["task"])
    except KeyError as error:
        raise UserError(f"{folder}: its manifest has no {error}, so another version made it; tokenise again") from error


def tokenizer_of(folder: Path) -> TokenizerFacts:
    """The tokenizer that a shard folder was made with.

    Raises:
        UserError: the folder's manifest does not say.
    """
    facts = read_manifest(folder).get("tokenizer")
    names = {field.name for field in fields(TokenizerFacts)}
    if not isinstance(facts, dict) or set(facts) != names:
        raise UserError(f"{folder}: its manifest has no tokenizer facts; tokenise again")
    return TokenizerFacts(**facts)
