"""Which documents of each source are packed, and how many tokens of them.

They are the first ones of a seeded permutation of the source, which depends on nothing but the seed, the source's
name and how many documents it has. So the sets of a ladder (1,250, 2,500, 5,000 samples, or as many tokens) are nested,
and the number of tokenise tasks does not change what is taken. Chats longer than a row cannot be packed; they are left
out before anything is counted.

A source of the texts a (5 tokens), b (4) and the chat c (3), in the order b, c, a of its permutation::

    samples=2   b c          tokens=7    b c          the budget ends with a document
    tokens=8    b c a[0:1]   tokens=6    b            a text is cut at the budget; a chat is left out, and the rest
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.errors import UserError
from msm_hpc.base.permutation import permutation
from tokenization.documents import read_documents
from tokenization.manifest import NAME, read_manifest
from tokenization.shards import MASK, Shard


@dataclass(frozen=True, kw_only=True)
class Take:
    """How much of one source is packed: all of it, unless one of the three is given.

    Attributes:
        samples: so many documents.
        tokens: so many tokens, EOD included; fewer if the document that would cross the budget is a chat.
        weight: of the tokens that all weighted sources have together, the share ``weight / sum of weights``.
        without: leaves documents out by a field of their rows, such as ``section=intro``, before anything is counted.
    """

    source: str
    samples: int | None = None
    tokens: int | None = None
    weight: float | None = None
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = {name: value for name in ("samples", "tokens", "weight") if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            raise UserError(f"source {self.source}: {' and '.join(given)} are given; give one of them")
        for each in self.without:
            if not all(each.partition("=")[::2]):
                raise UserError(f"source {self.source}: without is {each!r}; write FIELD=VALUE, such as section=intro")
        for name, value in given.items():
            if name == "weight" and not (value > 0 and isfinite(value)):
                raise UserError(f"source {self.source}: weight is {value}: it must be a number above 0")
            if name != "weight" and value < 1:
                raise UserError(f"source {self.source}: {name} is {value}: it must be at least 1, or null for all")


@dataclass(frozen=True)
class SourceDocuments:
    """All documents of a source, in the order of its corpus.

    Attributes:
        shards: documents in each shard.
        lengths: (documents,) int32, tokens.
        trainable: (documents,) int32, tokens that are training targets; all of a text's are.
        is_chat: (documents,) bool; chats are never cut.
    """

    shards: tuple[int, ...]
    lengths: NDArray[np.int32]
    trainable: NDArray[np.int32]
    is_chat: NDArray[np.bool_]

    @classmethod
    def read(cls, folders: Iterable[Path]) -> SourceDocuments:
        """Of the shard folders of its tokenise tasks, in their order."""
        shards = [_arrays(folder) for folder in folders]
        lengths, trainable, is_chat = (np.concatenate(arrays) for arrays in zip(*shards, strict=True))
        return cls(tuple(len(shard[0]) for shard in shards), lengths, trainable, is_chat)


@dataclass(frozen=True)
class BudgetCut:
    """The text that crosses a token budget: only the first ``length`` tokens of document ``document`` are taken."""

    document: int
    length: int


def budgets(takes: Sequence[Take], tokens: int | None) -> dict[str, int]:
    """The token budget of each source that has one.

    Weighted sources share ``tokens`` by largest remainder, so that the budgets sum to it exactly.

    Raises:
        UserError: a weighted source's share is less than a token.
    """
    fixed = {take.source: take.tokens for take in takes if take.tokens is not None}
    weights = {take.source: Fraction(take.weight) for take in takes if take.weight is not None}
    if tokens is None:
        return fixed
    exact = {source: tokens * weight / sum(weights.values()) for source, weight in weights.items()}
    shares = {source: int(share) for source, share in exact.items()}
    by_remainder = sorted(exact, key=lambda source: (shares[source] - exact[source], source))
    for source in by_remainder[: tokens - sum(shares.values())]:
        shares[source] += 1
    for source, share in shares.items():
        if not share:
            raise UserError(f"source {source}: its weight gives it none of {tokens} tokens; raise one of the two")
    return fixed | shares


def kept(folders: Iterable[Path], take: Take) -> NDArray[np.bool_] | None:
    """Which documents of the shards are not left out by ``take.without``; None where that says nothing.

    Raises:
        UserError: no document has such a field and value.
    """
    if not take.without:
        return None
    found = np.array(
        [held_by(each.provenance, take.without) for folder in folders for each in read_documents(folder)], np.uint32
    )
    for number, each in enumerate(take.without):
        if not (found >> np.uint32(number) & 1).any():
            raise UserError(
                f"source {take.source}: without is {each!r}, but no row has that; correct the field or value"
            )
    return np.equal(found, 0)


def held_by(fields: Mapping[str, Any], without: Sequence[str]) -> int:
    """Which of ``without`` hold of the fields of a row, one bit each."""
    pairs = [each.split("=", 1) for each in without]
    return sum(1 << number for number, (key, value) in enumerate(pairs) if key in fields and str(fields[key]) == value)


def choose(
    source: SourceDocuments,
    take: Take,
    budget: int | None,
    longest: int,
    seed: int,
    only: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int32], BudgetCut | None]:
    """What is taken of a source.

    Args:
        source: its documents.
        take: what was asked for.
        budget: most tokens to take, for ``take.tokens`` or ``take.weight``.
        longest: tokens of the longest chat that can be packed.
        seed: of the permutation.
        only: (documents,) bool, which may be taken; all where None.

    Returns:
        (documents,) int32, how many tokens of each document are taken, 0 where it is not; and the text cut at the
        budget, if any.

    Raises:
        UserError: more is asked for than there is.
    """
    packable = np.where(source.is_chat & (source.lengths > longest), np.int32(0), source.lengths)
    if only is not None:
        packable = np.where(only, packable, np.int32(0))
    if take.samples is None and budget is None:
        return packable, None
    order = permutation(len(packable), seed, f"documents of {take.source}").astype(np.uint32)
    order = order[packable[order] > 0]
    if budget is None:
        assert take.samples is not None
        _check_enough(take, "samples", take.samples, len(order), "documents")
        return _only(packable, order[: take.samples]), None
    ends = np.cumsum(packable[order], dtype=np.int64)
    _check_enough(take, "tokens", budget, int(ends[-1]) if len(ends) else 0, "tokens")
    whole = int(np.searchsorted(ends, budget, "right"))
    taken = _only(packable, order[:whole])
    left = budget - (int(ends[whole - 1]) if whole else 0)
    if not left or source.is_chat[order[whole]]:
        return taken, None
    taken[order[whole]] = left
    return taken, BudgetCut(int(order[whole]), left)


def _arrays(folder: Path) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
    shard = Shard.open(folder)
    trainable = shard.trainable().astype(np.int32)
    found, said = int(trainable.sum(dtype=np.int64)), read_manifest(folder)["trainable_tokens"]
    if found != said:
        raise UserError(f"{folder / MASK}: {found} training targets, where {NAME} says {said}; tokenise again")
    return shard.lengths, trainable, shard.is_chat()


def _only(packable: NDArray[np.int32], documents: NDArray[np.uint32]) -> NDArray[np.int32]:
    taken = np.zeros_like(packable)
    taken[documents] = packable[documents]
    return taken


def _check_enough(take: Take, field: str, wanted: int, found: int, what: str) -> None:
    if wanted > found:
        share = "" if take.weight is None else f" by its weight {take.weight}"
        raise UserError(
            f"source {take.source}: {field} is {wanted}{share}, but it has {found} {what} to pack; "
            "generate more, or take fewer"
        )
