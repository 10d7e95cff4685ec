"""Which documents share a training row: the pack plan.

A *row* is at most ``sequence_length`` tokens and holds one or more *pieces*; a piece is a whole document or, of a
text longer than a row, a part of it. The plan only points into shards, so the same tokens serve every sequence length.
With ``sequence_length=10`` a text of 23 tokens and a chat of 6 make three rows::

    [text 0:10]   [text 10:20]   [chat 0:6, text 20:23]     one token of padding

Documents that fit are never cut; a chat that does not fit is dropped, and counted. Rows are filled by best-fit
decreasing (``bestfit.py``) and then shuffled, since it leaves the long documents in the first rows.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokenization.bestfit import best_fit
from tokenization.documents import TokenizerFacts, tokenizer_of
from tokenization.errors import BadInput
from tokenization.manifest import FileRecord, record_files, write_manifest
from tokenization.selection import Selection, choose, permutation, read_shard, shard_keys

PLAN = "plan.npz"
MAX_SEQUENCE_LENGTH = 1 << 20
"""Best-fit needs memory, and time for every piece, in proportion to the sequence length."""


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """What to pack.

    Attributes:
        sequence_length: most tokens in a row, from 2 to :data:`MAX_SEQUENCE_LENGTH`.
        samples: pairs of a source's name and the number of documents taken from it; None takes all.
        seed: of the permutation of each source, and of the order of the rows.
    """

    sequence_length: int
    samples: tuple[tuple[str, int | None], ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sequence_length < 2:
            raise BadInput(f"sequence_length is {self.sequence_length}: it must be at least 2")
        if self.sequence_length > MAX_SEQUENCE_LENGTH:
            raise BadInput(f"sequence_length is {self.sequence_length}: it must be at most {MAX_SEQUENCE_LENGTH}")
        if self.seed < 0:
            raise BadInput(f"seed is {self.seed}: it must not be negative")
        for source, count in self.samples:
            if count is not None and count < 1:
                raise BadInput(f"samples.{source} is {count}: it must be at least 1, or null for all")
        if len(dict(self.samples)) != len(self.samples):
            raise BadInput("samples: a source is named twice; name each once")


@dataclass(frozen=True)
class Piece:
    """Tokens ``[start, start + length)`` of document ``document`` of the shard with key ``shard``."""

    shard: str
    document: int
    start: int
    length: int


class Plan:
    """Reader of a pack folder; ``row(i)`` is the pieces of training row ``i``, in order.

    Attributes:
        sequence_length: most tokens in a row.
        pad_id: the token that fills a row up; never ``eod_id``, which ends every document.
        shards: shard keys, ``"<source>/<index>"``.

    Raises:
        BadInput: the folder has no plan, or the file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / PLAN
        if not path.is_file():
            raise BadInput(f"{path}: no such file; give a pack folder")
        try:
            with np.load(path) as arrays:
                self.sequence_length = int(arrays["sequence_length"])
                self.eod_id, self.pad_id = int(arrays["eod_id"]), int(arrays["pad_id"])
                self.shards: list[str] = arrays["shards"].tolist()
                self._row_offsets = arrays["row_offsets"]
                self._shard, self._document = arrays["shard"], arrays["document"]
                self._start, self._length = arrays["start"], arrays["length"]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise BadInput(f"{path}: damaged ({error}); pack again") from error

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._row_offsets) - 1

    def row(self, index: int) -> list[Piece]:
        """The pieces of one row; their lengths sum to at most ``sequence_length``."""
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        begin, end = int(self._row_offsets[index]), int(self._row_offsets[index + 1])
        return [
            Piece(self.shards[self._shard[i]], int(self._document[i]), int(self._start[i]), int(self._length[i]))
            for i in range(begin, end)
        ]


@dataclass(frozen=True)
class SourceCounts:
    """Documents of one source: in the corpus, taken, cut into pieces (long texts), dropped (long chats)."""

    available: int
    taken: int
    split: int
    dropped: int


@dataclass(frozen=True)
class PackManifest:
    """``manifest.json`` of a pack folder.

    Attributes:
        trainable_tokens: tokens in the plan whose loss mask is 1.
        waste: fraction of ``rows * sequence_length`` that is padding.
    """

    sequence_length: int
    seed: int
    tokenizer: TokenizerFacts
    rows: int
    tokens: int
    trainable_tokens: int
    waste: float
    sources: Mapping[str, SourceCounts]
    files: Mapping[str, FileRecord]


def run(config: PackConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ``plan.npz`` and ``manifest.json``.

    Args:
        config: what to pack.
        inputs: ``"<source>/<index>"`` to a shard folder; the index counts the tokenise tasks of the source from 0.
        out: an existing folder.

    Raises:
        BadInput: more samples are asked for than exist, ``samples`` and the inputs name different sources, the shards
            were made with different tokenizers, or nothing is left to pack.
    """
    keys_of = shard_keys(inputs)
    named = {source for source, _ in config.samples}
    if named != set(keys_of):
        raise BadInput(
            f"samples names the sources {sorted(named)}, but the inputs are {sorted(keys_of)}; name the same"
        )
    keys = [key for keys in keys_of.values() for key in keys]
    tokenizer = _common_tokenizer({key: inputs[key] for key in keys})
    documents, sources = _select(config, inputs, keys_of)
    rows = _write_plan(out / PLAN, config, keys, tokenizer, documents)
    tokens = int(documents["length"].sum(dtype=np.int64))
    manifest = PackManifest(
        sequence_length=config.sequence_length,
        seed=config.seed,
        tokenizer=tokenizer,
        rows=rows,
        tokens=tokens,
        trainable_tokens=int(documents["trainable"].sum()),
        waste=1 - tokens / (rows * config.sequence_length),
        sources=sources,
        files=record_files(out, [PLAN]),
    )
    write_manifest(out, manifest)


def _select(
    config: PackConfig, inputs: Mapping[str, Path], keys_of: Mapping[str, list[str]]
) -> tuple[Selection, dict[str, SourceCounts]]:
    """The documents to pack, and the counts of each source; shards are numbered in the order of ``keys_of``."""
    samples, places = dict(config.samples), itertools.count()
    kept: list[Selection] = []
    counts: dict[str, SourceCounts] = {}
    for source, keys in keys_of.items():
        available = np.concatenate([read_shard(inputs[key], next(places)) for key in keys])
        taken = choose(available, samples[source], source, config.seed)
        long, chat = taken["length"] > config.sequence_length, taken["is_chat"]
        counts[source] = SourceCounts(len(available), len(taken), int((long & ~chat).sum()), int((long & chat).sum()))
        kept.append(taken[~(long & chat)])
    documents = np.concatenate(kept)
    if not len(documents):
        raise BadInput(
            f"nothing to pack: no documents, or only chats longer than sequence_length, {config.sequence_length} "
            "tokens; raise it or add documents"
        )
    return documents, counts


def _common_tokenizer(folders: Mapping[str, Path]) -> TokenizerFacts:
    facts = {key: tokenizer_of(folder) for key, folder in folders.items()}
    first = next(iter(facts))
    for key in facts:
        if facts[key] != facts[first]:
            raise BadInput(f"{key} and {first} were made with different tokenizers; tokenise both with one")
    return facts[first]


def _write_plan(
    path: Path, config: PackConfig, keys: list[str], tokenizer: TokenizerFacts, documents: Selection
) -> int:
    """Cut long texts, fill rows, shuffle the rows, write them; returns how many there are."""
    capacity = config.sequence_length
    pieces_of = -(-documents["length"].astype(np.int64) // capacity)
    owner = np.repeat(np.arange(len(documents)), pieces_of)
    part = np.arange(len(owner)) - np.repeat(np.cumsum(pieces_of) - pieces_of, pieces_of)
    start = part * capacity
    length = np.minimum(documents["length"][owner] - start, capacity).astype(np.int32)
    opened = best_fit(length, capacity)
    rows = int(opened.max()) + 1
    row = np.argsort(permutation(rows, config.seed, "rows"))[opened]
    order = np.lexsort((-length, row))
    row_offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(np.bincount(row, minlength=rows), out=row_offsets[1:])
    np.savez(
        path,
        sequence_length=np.int64(capacity),
        eod_id=np.int64(tokenizer.eod_id),
        pad_id=np.int64(tokenizer.pad_id),
        shards=np.array(keys),
        row_offsets=row_offsets,
        shard=documents["shard"][owner][order],
        document=documents["document"][owner][order],
        start=start[order],
        length=length[order],
    )
    return rows
