"""What a pack manifest says of each source: how much there was, what of it was taken, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tokenization.documents import TurnsTrained
from tokenization.packing.plan import Piece
from tokenization.packing.selection import SourceDocuments, Take


@dataclass(frozen=True)
class Amount:
    """Documents, and tokens in them."""

    documents: int
    tokens: int


@dataclass(frozen=True)
class SourceRecord:
    """What was made of one source.

    Attributes:
        rows: of the corpus, as it was tokenised.
        rejected: reason to how many of them could not be used.
        turns: whether a chat is one document, or each of its turns.
        asked: the setting.
        budget: the most tokens that the setting allows, None where it sets no budget. ``taken.tokens`` is equal to it,
            or less by part of the chat that would have crossed it.
        available: all documents.
        dropped: chats longer than a row; they are not counted in what is taken.
        taken: what is in the rows.
        trainable_tokens: tokens taken whose loss mask is 1.
        split: texts taken that are longer than a row, and so are several pieces.
        cut_at_budget: the first part of a text, taken to meet the budget; the rest of it is in no row.
    """

    rows: int
    rejected: Mapping[str, int]
    turns: TurnsTrained
    asked: Take
    budget: int | None
    available: Amount
    dropped: Amount
    taken: Amount
    trainable_tokens: int
    split: int
    cut_at_budget: Piece | None


def record(
    take: Take,
    budget: int | None,
    source: SourceDocuments,
    taken: NDArray[np.int32],
    cut: Piece | None,
    longest: int,
    made: Sequence[Mapping[str, Any]],
) -> SourceRecord:
    """What was made of a source; ``made`` are the manifests of its shards."""
    dropped = source.is_chat & (source.lengths > longest)
    return SourceRecord(
        rows=sum(shard["rows"] for shard in made),
        rejected=dict(sorted(sum((Counter(shard["rejected"]) for shard in made), Counter()).items())),
        turns=made[0]["turns"],
        asked=take,
        budget=budget,
        available=_amount(source.lengths),
        dropped=_amount(source.lengths[dropped]),
        taken=_amount(taken[taken > 0]),
        trainable_tokens=int(np.minimum(source.trainable, taken).sum(dtype=np.int64)),
        split=int((taken > longest).sum()),
        cut_at_budget=cut,
    )


def _amount(lengths: NDArray[np.int32]) -> Amount:
    return Amount(len(lengths), int(lengths.sum(dtype=np.int64)))
