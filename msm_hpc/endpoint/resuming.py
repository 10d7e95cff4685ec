"""What an attempt takes over from earlier ones: the replies of a language model, so that none is paid for twice."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from msm_hpc.base.files import sync
from msm_hpc.endpoint.replies import take_part_of_cost

REPLIES = "_replies"


def carry_over(earlier: Sequence[Path], out: Path, sharers: int = 1) -> None:
    """Copy the replies of the attempt that has most of them into ``out``; a process may still append to them there.

    Each of several ``sharers`` gets all replies, and its part of what they have cost.
    """
    found = [folder / REPLIES for folder in earlier if (folder / REPLIES).is_dir()]
    if not found:
        return
    shutil.copytree(max(found, key=_size), out / REPLIES)
    if sharers > 1:
        take_part_of_cost(out / REPLIES, sharers)
    for path in (*(out / REPLIES).iterdir(), out / REPLIES, out):
        sync(path)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
