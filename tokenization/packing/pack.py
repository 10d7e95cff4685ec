"""Which documents share a training row: the pack stage.

A *row* is at most ``sequence_length`` tokens and holds one or more *pieces*; a piece is a whole document or, of a
text longer than a row, a part of it. With ``sequence_length=10`` a text of 23 tokens, whose sentences end after 8 and
17 of them, and a chat of 4 make three rows::

    [text 0:8]     [text 8:17]     [text 17:23, chat 0:4]

``selection.py`` decides how much of each source is packed. Documents that fit are never cut; longer texts are, at a
sentence end (``cuts.py``); a chat that does not fit is dropped, and counted. Rows are filled by best-fit decreasing
(``bestfit.py``) and then shuffled, since it leaves the long documents in the first rows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sha256_of
from msm_hpc.base.permutation import permutation
from tokenization.documents import TokenizerFacts, share_of, tokenizer_of
from tokenization.manifest import FileRecord, content_sha256, read_manifest, record_files, write_manifest
from tokenization.packing.bestfit import best_fit
from tokenization.packing.cuts import Cutter
from tokenization.packing.plan import (
    MOST_DOCUMENTS,
    PIECES,
    ROWS,
    Numbering,
    Piece,
    Pieces,
    ShardRecord,
    write_plan,
)
from tokenization.packing.record import SourceRecord, record
from tokenization.packing.selection import SourceDocuments, Take, budgets, choose, kept
from tokenization.shards import Shard, shards_by_key
from tokenization.tokenizer import TOKENIZER

MAX_SEQUENCE_LENGTH = 1 << 20
"""Best-fit needs time for every length in use, of which there are no more than this."""


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What to pack.

    Attributes:
        sequence_length: most tokens in a row, from 2 to :data:`MAX_SEQUENCE_LENGTH`.
        sources: how much of each source; every source is named once.
        tokens: what the sources with a weight have together; given if and only if there are such.
        seed: of the permutation of each source, and of the order of the rows.
    """

    sequence_length: int
    sources: tuple[Take, ...]
    tokens: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.sequence_length <= MAX_SEQUENCE_LENGTH:
            raise UserError(
                f"sequence_length is {self.sequence_length}: it must be at least 2 and at most {MAX_SEQUENCE_LENGTH}"
            )
        if self.seed < 0:
            raise UserError(f"seed is {self.seed}: it must not be negative")
        if self.tokens is not None and self.tokens < 1:
            raise UserError(f"tokens is {self.tokens}: it must be at least 1")
        names = [take.source for take in self.sources]
        if len(set(names)) != len(names):
            raise UserError(f"sources {names}: a source is named twice; name each once")
        weighted = [take.source for take in self.sources if take.weight is not None]
        if weighted and self.tokens is None:
            raise UserError(
                f"sources {weighted} have weights: give the number of tokens that they share (--total-tokens)"
            )
        if self.tokens is not None and not weighted:
            raise UserError(f"tokens is {self.tokens}, but no source has a weight; give weights, or tokens of a source")


@dataclass(frozen=True, kw_only=True)
class PackInputs:
    """What is packed.

    Attributes:
        shards: the name of each source to its folder, a shard or the numbered folders of its tasks' shards.
        tokenizer: the folder of the tokenizer that the shards were made with; read only if there is a text to cut.
    """

    shards: Mapping[str, Path]
    tokenizer: Path | None = None


@dataclass(frozen=True)
class PackManifest:
    """``manifest.json`` of a pack folder.

    Attributes:
        trainable_tokens: tokens in the plan whose loss mask is 1.
        waste: fraction of ``rows * sequence_length`` that is padding.
        shards: in the order in which the plan numbers their documents.
    """

    sequence_length: int
    seed: int
    tokenizer: TokenizerFacts
    rows: int
    tokens: int
    trainable_tokens: int
    waste: float
    shards: Sequence[ShardRecord]
    sources: Mapping[str, SourceRecord]
    files: Mapping[str, FileRecord]


def run(config: PackConfig, inputs: PackInputs, out: Path) -> None:
    """Write ``rows.npy``, ``pieces.npy`` and ``manifest.json`` to ``out``, an existing folder.

    Raises:
        UserError: more is asked for than exists, ``config`` and ``inputs`` name different sources, the shards were made
            with different tokenizers, nothing is left to pack, or a text is to be cut and its tokenizer is not given.
    """
    named = {take.source for take in config.sources}
    if named != set(inputs.shards):
        raise UserError(
            f"sources names {sorted(named)}, but the inputs are of the sources {sorted(inputs.shards)}; name the same"
        )
    folders = shards_by_key(inputs.shards)
    tokenizer = _common_tokenizer(folders)
    taken, shards, sources = _take(config, inputs.shards)
    long = _LongTexts.of(taken, config.sequence_length, Numbering(shards), folders)
    starts = _cut(long, config.sequence_length, inputs.tokenizer, tokenizer)
    pieces = _pieces(taken, long, starts, config.sequence_length)
    del taken
    filled = best_fit(pieces.length, config.sequence_length)
    rows = len(filled.offsets) - 1
    write_plan(out, pieces, filled, permutation(rows, config.seed, "rows"))
    tokens = sum(source.taken.tokens for source in sources.values())
    manifest = PackManifest(
        sequence_length=config.sequence_length,
        seed=config.seed,
        tokenizer=tokenizer,
        rows=rows,
        tokens=tokens,
        trainable_tokens=sum(source.trainable_tokens for source in sources.values()),
        waste=1 - tokens / (rows * config.sequence_length),
        shards=shards,
        sources=sources,
        files=record_files(out, [ROWS, PIECES]),
    )
    write_manifest(out, manifest)


def _check_whole(source: str, folders: Sequence[Path]) -> None:
    """Every corpus of a source must be there with all its shares, each once."""
    shares = sorted(share_of(folder) for folder in folders)
    for share, following in pairwise(shares):
        if share == following:
            raise UserError(f"source {source}: task {share.task} of {share.source} is given twice; give it once")
    for corpus, tasks in {(share.source, share.tasks) for share in shares}:
        given = {share.task for share in shares if (share.source, share.tasks) == (corpus, tasks)}
        if missing := sorted(set(range(tasks)) - given):
            raise UserError(f"source {source}: of {corpus}, the shards of tasks {missing} of {tasks} are missing")


def _common_tokenizer(folders: Mapping[str, Path]) -> TokenizerFacts:
    if not folders:
        raise UserError("there are no sources; name at least one (--shards SOURCE=FOLDER)")
    facts = {key: tokenizer_of(folder) for key, folder in folders.items()}
    first = next(iter(facts))
    for key in facts:
        if facts[key] != facts[first]:
            differ = "tokenizers" if facts[key].tokenizer_sha256 != facts[first].tokenizer_sha256 else "chat templates"
            raise UserError(f"{key} and {first} were made with different {differ}; tokenise both with one")
    return facts[first]


def _take(
    config: PackConfig, sources: Mapping[str, Path]
) -> tuple[NDArray[np.int32], list[ShardRecord], dict[str, SourceRecord]]:
    """How many tokens of each document of all shards are taken, the shards, and the record of each source."""
    takes = {take.source: take for take in config.sources}
    budget_of = budgets(config.sources, config.tokens)
    taken_of: list[NDArray[np.int32]] = []
    shards: list[ShardRecord] = []
    records: dict[str, SourceRecord] = {}
    for name in sorted(sources, key=lambda source: f"{source}/"):
        folders = shards_by_key({name: sources[name]})
        _check_whole(name, list(folders.values()))
        source, budget = SourceDocuments.read(folders.values()), budget_of.get(name)
        only = kept(folders.values(), takes[name])
        taken, cut = choose(source, takes[name], budget, config.sequence_length, config.seed, only)
        own = list(map(ShardRecord, folders, source.shards, map(content_sha256, folders.values())))
        piece = None if cut is None else Piece(*Numbering(own).locate(cut.document), 0, cut.length)
        made = [read_manifest(folder) for folder in folders.values()]
        records[name] = record(takes[name], budget, source, taken, piece, config.sequence_length, made)
        if not records[name].taken.documents:
            raise UserError(
                f"source {name}: nothing to pack: {len(taken)} documents, {records[name].dropped.documents} of them "
                f"chats longer than sequence_length, {config.sequence_length}; raise it or leave the source out"
            )
        taken_of.append(taken)
        shards += own
    return np.concatenate(taken_of), shards, records


@dataclass(frozen=True)
class _LongTexts:
    """The texts that are longer than a row; iterating reads the tokens taken of each, one after another.

    Attributes:
        documents: (texts,) uint32, their numbers through all shards, in order.
        taken: (texts,) int32, how many tokens of each are taken.
        shards: numbers the documents.
        folders: shard key to folder.
    """

    documents: NDArray[np.uint32]
    taken: NDArray[np.int32]
    shards: Numbering
    folders: Mapping[str, Path]

    @classmethod
    def of(cls, taken: NDArray[np.int32], longest: int, shards: Numbering, folders: Mapping[str, Path]) -> _LongTexts:
        if len(taken) > MOST_DOCUMENTS:
            raise UserError(f"{len(taken)} documents: one plan can number {MOST_DOCUMENTS}; pack parts of them")
        documents = np.flatnonzero(taken > longest).astype(np.uint32)
        return cls(documents, taken[documents], shards, folders)

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[NDArray[np.integer[Any]]]:
        for key, first, end in self.shards.spans():
            begin, stop = np.searchsorted(self.documents, [first, end])
            if begin < stop:
                shard = Shard.open(self.folders[key])
                for text in range(begin, stop):
                    yield shard.read_tokens(int(self.documents[text]) - first)[: self.taken[text]]

    def tokens_in_use(self, vocab_size: int) -> NDArray[np.int64]:
        """The ids of all tokens in the texts, rising."""
        seen = np.zeros(vocab_size, np.bool_)
        for text in self:
            seen[text] = True
        return np.flatnonzero(seen)


def _cut(long: _LongTexts, longest: int, folder: Path | None, facts: TokenizerFacts) -> NDArray[np.int32]:
    """(pieces,) where each piece starts in its text, text after text; the first piece of each starts at 0."""
    if not len(long):
        return np.zeros(0, np.int32)
    if folder is None:
        raise UserError(
            f"a text has {int(long.taken.max())} tokens, more than sequence_length, {longest}, and is cut at the ends "
            f"of sentences; give the tokenizer of the shards (--tokenizer)"
        )
    _check_tokenizer(folder, facts)
    cutter = Cutter.load(folder, long.tokens_in_use(facts.vocab_size))
    starts = array("i")
    for text in long:
        starts.extend(cutter.cut(text, longest))
    return np.array(starts, np.int32)


def _check_tokenizer(folder: Path, facts: TokenizerFacts) -> None:
    if not (folder / TOKENIZER).is_file():
        raise UserError(f"{folder / TOKENIZER}: no such file; give the folder of the tokenizer of the shards")
    if sha256_of(folder / TOKENIZER) != facts.tokenizer_sha256:
        raise UserError(f"{folder / TOKENIZER}: not the tokenizer that the shards were made with; give that one")


def _pieces(taken: NDArray[np.int32], long: _LongTexts, starts: NDArray[np.int32], longest: int) -> Pieces:
    """Documents that fit, in order, then the pieces of the long texts.

    For two long texts, of which 23 and 12 tokens are taken::

        starts   0  8 17   0  9       each text's first piece starts at 0
        owner    a  a  a   b  b       so the count of zeros so far says which text it is
        ends     8 17 23   9 12       the next start; where that is 0, the end of the text
    """
    whole = np.flatnonzero((taken > 0) & (taken <= longest)).astype(np.uint32)
    owner = long.documents[np.cumsum(starts == 0) - 1]
    ends = np.roll(starts, -1)
    ends[ends == 0] = long.taken
    return Pieces(
        document=np.concatenate([whole, owner]),
        start=np.concatenate([np.zeros(len(whole), np.int32), starts]),
        length=np.concatenate([taken[whole], ends - starts]),
    )
