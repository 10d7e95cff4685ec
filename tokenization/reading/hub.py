"""Names of data sets: ``hf:NAME[@REVISION][:[SUBSET/]SPLIT]``, such as ``hf:org/chats@3f1c…:en/train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAMED = "hf:"
SPLIT = "train"


@dataclass(frozen=True)
class DatasetName:
    """A data set of the Hugging Face hub, or of a folder; ``subset`` is what its page calls so."""

    name: str
    revision: str | None = None
    subset: str | None = None
    split: str = SPLIT

    @classmethod
    def parse(cls, text: str | Path) -> DatasetName | None:
        """What ``text`` names; None where it is the path of a file."""
        if not str(text).startswith(NAMED):
            return None
        place, _, part = str(text).removeprefix(NAMED).partition(":")
        name, _, revision = place.partition("@")
        subset, _, split = part.rpartition("/")
        return cls(name, revision or None, subset or None, split or SPLIT)
