"""What a run that resumes takes over from earlier attempts at it, into a folder of its own.

The process of an earlier attempt may still live (on a node that Slurm lost) and write. What has its name is never
changed: a checkpoint's files are the same files in both folders, by hard links. What is appended to is copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from msm_hpc.base.progress import FILE as PROGRESS_FILE

RESUME, STEP = "resume", "step-"
_CHECKPOINT, _SUMMARY = "checkpoint", "summary.json"


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    """Bring into the empty ``out`` what the attempt that got furthest had saved; nothing where none had.

    Checkpoints come first, since what is appended to must know of all their steps.
    """
    furthest = max(earlier, key=_progress, default=None)
    if furthest is None or _progress(furthest) == (False, ""):
        return
    for folder in (furthest / _CHECKPOINT, *reversed(resume_checkpoints(furthest / RESUME))):
        target = out / folder.relative_to(furthest)
        if not _all_files(folder, target, _link):  # it has just been deleted, since there is a newer one
            shutil.rmtree(target, ignore_errors=True)
    for path in furthest.iterdir():
        if path.name not in (_CHECKPOINT, RESUME, PROGRESS_FILE) and not path.name.startswith("."):
            _all_files(path, out / path.name, shutil.copy2)


def resume_checkpoints(folder: Path) -> list[Path]:
    """The resume checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob(f"{STEP}*"))


def _progress(out: Path) -> tuple[bool, str]:
    """How far an attempt got: whether the run was finished, and its newest resume checkpoint."""
    newest = max((step.name for step in resume_checkpoints(out / RESUME)), default="")
    return (out / _SUMMARY).exists(), newest


def _all_files(source: Path, target: Path, bring: Callable[[Path, Path], object]) -> bool:
    """``bring`` every file of a folder, or one file; whether all were still there."""
    try:
        for file in source.rglob("*") if source.is_dir() else (source,):
            if file.is_file():
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                bring(file, place)
    except FileNotFoundError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links between folders
        shutil.copy2(source, target)
