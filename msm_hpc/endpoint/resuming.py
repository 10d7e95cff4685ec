"""What an attempt takes over from earlier ones: the replies of a language model, so that none is paid for twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from msm_hpc.base.files import sync

REPLIES = "_replies"


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    """Copy the replies of the attempt that has most of them into ``out``; a process may still append to them there."""
    found = [folder / REPLIES for folder in earlier if (folder / REPLIES).is_dir()]
    if not found:
        return
    shutil.copytree(max(found, key=_size), out / REPLIES)
    for path in (*(out / REPLIES).iterdir(), out / REPLIES, out):
        sync(path)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
