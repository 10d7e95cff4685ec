"""A hundred paragraphs of five kinds of prose: explanation, story, instructions, letter and report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from msm_hpc.base.rows import read_rows

_FILE = Path(__file__).parent / "paragraphs.jsonl"


@dataclass(frozen=True)
class Document:
    """One text; ``kind`` is what numbers are given for beside the total."""

    id: str
    kind: str
    text: str


def paragraphs() -> list[Document]:
    """All of them, kind by kind."""
    return read_rows(_FILE, Document)


@cache
def hash_of_paragraphs() -> str:
    """Names the texts, so that a change of theirs is a change of results."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()[:16]
