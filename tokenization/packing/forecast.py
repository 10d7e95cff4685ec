"""How many rows a plan will have, before it is made: by the lengths of documents alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tokenization.packing.bestfit import best_fit
from tokenization.packing.pack import PackConfig
from tokenization.packing.selection import SourceDocuments, Take, budgets, choose, kept
from tokenization.shards import Shard, shards_by_key


def row_count(lengths: NDArray[np.int32], longest: int) -> int:
    """How many rows documents of these ``lengths`` pack into; one that is longer than a row is cut anywhere."""
    full, rest = lengths // longest, lengths % longest
    filled = best_fit(rest[rest > 0].astype(np.int32), longest)
    return int(full.sum(dtype=np.int64)) + len(filled.offsets) - 1


def rows_of_shards(config: PackConfig, shards: Mapping[str, Path]) -> int:
    """How many rows ``config`` packs of ``shards``, the folder of each source.

    Raises:
        UserError: more is asked for than exists, or a shard cannot be read.
    """
    budget_of = budgets(config.sources, config.tokens)
    taken = [_taken(take, budget_of.get(take.source), shards[take.source], config) for take in config.sources]
    return row_count(np.concatenate(taken), config.sequence_length)


def _taken(take: Take, budget: int | None, folder: Path, config: PackConfig) -> NDArray[np.int32]:
    folders = [*shards_by_key({take.source: folder}).values()]
    shards = [Shard.open(each) for each in folders]
    lengths = np.concatenate([shard.lengths for shard in shards])
    is_chat = np.concatenate([shard.is_chat() for shard in shards])
    source = SourceDocuments((), lengths, np.zeros_like(lengths), is_chat)  # what is a target does not matter here
    return choose(source, take, budget, config.sequence_length, config.seed, kept(folders, take))[0]
