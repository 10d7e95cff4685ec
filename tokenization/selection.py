"""Which documents of each source are packed.

They are the first ones of a seeded permutation of the source, which depends on nothing but the seed, the source's
name and how many documents it has. So the sets of a ladder (1,250, 2,500, 5,000 samples) are nested, and neither the
number of tokenise tasks nor the sequence length changes what is taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokenization.documents import DOCUMENTS, read_documents
from tokenization.errors import BadInput
from tokenization.shards import Shard

FIELDS = np.dtype(
    [
        ("shard", np.int32),  # place in the list of shard keys
        ("document", np.int64),  # number within that shard
        ("length", np.int32),  # tokens
        ("trainable", np.int64),  # tokens that are training targets
        ("is_chat", np.bool_),  # chats are never cut
    ]
)
Selection: TypeAlias = NDArray[np.void]
"""(documents,) array of :data:`FIELDS`."""


def shard_keys(inputs: Mapping[str, Path]) -> dict[str, list[str]]:
    """Source name, in alphabetical order, to its keys ``"<source>/<index>"`` in order of index.

    Raises:
        BadInput: a key has another form, or the indexes of a source are not 0, 1, 2...
    """
    found: dict[str, list[int]] = {}
    for key in sorted(inputs):
        match = re.fullmatch(r"(.+)/(0|[1-9]\d*)", key)
        if match is None:
            raise BadInput(f"input {key!r}: expected SOURCE/INDEX; name it as in chats/0")
        found.setdefault(match[1], []).append(int(match[2]))
    for source, indexes in found.items():
        if sorted(indexes) != list(range(len(indexes))):
            raise BadInput(f"inputs of {source}: indexes {sorted(indexes)}; number them 0 to {len(indexes) - 1}")
    return {source: [f"{source}/{index}" for index in range(len(indexes))] for source, indexes in found.items()}


def read_shard(folder: Path, place: int) -> Selection:
    """All documents of one shard folder; ``place`` is the shard's place in the list of keys."""
    shard = Shard(folder)
    is_chat = np.array([record.kind == "chat" for record in read_documents(folder)], np.bool_)
    if len(is_chat) != len(shard):
        raise BadInput(f"{folder}: {DOCUMENTS} has {len(is_chat)} lines for {len(shard)} documents; tokenise again")
    selection = np.empty(len(shard), FIELDS)
    selection["shard"], selection["document"] = place, np.arange(len(shard))
    selection["length"], selection["trainable"] = shard.lengths, shard.trainable()
    selection["is_chat"] = is_chat
    return selection


def choose(available: Selection, wanted: int | None, source: str, seed: int) -> Selection:
    """The first ``wanted`` documents of the source's permutation; all of them where None.

    Raises:
        BadInput: more are wanted than there are.
    """
    if wanted is not None and wanted > len(available):
        raise BadInput(
            f"samples.{source} is {wanted}, but the source has {len(available)} documents; generate more, or take fewer"
        )
    return available[permutation(len(available), seed, f"documents of {source}")[:wanted]]


def permutation(count: int, seed: int, name: str) -> NDArray[np.int64]:
    """A permutation of ``range(count)``, the same on every machine and NumPy version.

    NumPy promises that for a bit generator's raw stream and for ``SeedSequence``, not for ``Generator.permutation``.
    """
    stream = np.random.PCG64(np.random.SeedSequence([seed, *name.encode()]))
    return np.argsort(stream.random_raw(count), kind="stable")
