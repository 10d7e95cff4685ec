"""Which folders can be a root: their path stands in the scripts of jobs, and in the patterns that name their logs."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

_LONGEST_NAME, _LONGEST_PATH = 255, 1000
"""In bytes; the second leaves room for what lies below."""


def root_problems(root: Path) -> Iterator[str]:
    """Why ``root`` cannot be one, if so, with the fix."""
    text = str(root.absolute())
    shown = text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"
    if unfit := sorted({char for char in text if not _fit(char)}):
        yield (
            f"root={shown!r} has {', '.join(map(repr, unfit))} in its path, which Slurm and submitit do not take as it "
            "is in the name of a log; give a folder without"
        )
        return
    if len(text.encode()) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in Path(text).parts):
        yield (
            f"root={shown} is too long: {_LONGEST_PATH} bytes are possible, {_LONGEST_NAME} for each folder; give a "
            "shorter one"
        )


def _fit(char: str) -> bool:
    """Not ``%`` and a backslash, which patterns have a meaning for; no line break or the like, and no broken UTF-8."""
    return char == "\t" or (char not in "%\\" and unicodedata.category(char) not in ("Cc", "Cs"))
