r"""Texts that begin alike, laid out in rows in which what they share stands, and is computed, once.

The four texts of a pair share their questions, and those the chat template's system turn. In order of their tokens they
are a tree, and a row holds its nodes one after another; each text is a path::

    texts   U which a or b A a        row        U  which  a  or  b  A  a  b  b  or  a  A  ...
            U which a or b A b        position   0  1      2  3   4  5  6  6  2  3   4  5
            U which b or a A a ...    sees       its own path alone, by the attention mask

So a row is one sequence to the model, with the position of each token in its text and a mask that lets a token attend
to its ancestors alone: each text is computed as if it stood by itself. (Speculative decoding calls it tree attention:
Miao et al., SpecInfer, arXiv 2305.09781.) It is right for decoders with full attention and rotary embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer[Any]]


@dataclass
class Row:
    """A tree of texts.

    Attributes:
        texts: which of the texts are in it.
        paths: of each of these, the nodes of its tokens.
        ids: of each node, its token.
        positions: of each node, its place in its text.
    """

    texts: list[int] = field(default_factory=list)
    paths: list[NDArray[np.int64]] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    def add(self, text: int, ids: Ids, shared: int) -> None:
        """Add a text that begins with the first ``shared`` tokens of the last one."""
        new = np.arange(len(self.ids), len(self.ids) + len(ids) - shared)
        before = self.paths[-1][:shared] if shared else new[:0]
        self.texts.append(text)
        self.paths.append(np.concatenate([before, new]))
        self.ids += ids[shared:].tolist()
        self.positions += range(shared, len(ids))

    def attended(self) -> NDArray[np.bool_]:
        """(nodes, nodes): which nodes each node sees: those of its path up to itself."""
        mask = np.zeros((len(self.ids), len(self.ids)), np.bool_)
        for path in self.paths:
            mask[np.ix_(path, path)] |= np.tri(len(path), dtype=np.bool_)
        return mask


def rows_of(texts: Sequence[Ids], size: int) -> Iterator[Row]:
    """All texts in rows of at most ``size`` nodes; a longer text has a row of its own."""
    row = Row()
    last: Ids = np.zeros(0, np.int32)
    for text in sorted(range(len(texts)), key=lambda text: _in_order(texts[text])):
        ids = texts[text]
        shared = _shared(last, ids) if row.texts else 0
        if row.texts and len(row.ids) + len(ids) - shared > size:
            yield row
            row, shared = Row(), 0
        row.add(text, ids, shared)
        last = ids
    if row.texts:
        yield row


def beginning_of_all(texts: Sequence[Ids]) -> int:
    """How many tokens all texts begin with alike."""
    first, last = (choose(texts, key=_in_order) for choose in (min, max))
    return _shared(first, last)


def _in_order(ids: Ids) -> bytes:
    """Texts sorted by this are in the order of their tokens."""
    return ids.astype(">i4").tobytes()


def _shared(one: Ids, other: Ids) -> int:
    """How many tokens two texts begin with alike."""
    shorter = min(len(one), len(other))
    differs = np.flatnonzero(one[:shorter] != other[:shorter])
    return int(differs[0]) if len(differs) else shorter
