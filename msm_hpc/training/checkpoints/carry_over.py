"""What a run that resumes takes over from earlier attempts at it, into a folder of its own.

The process of an earlier attempt may still live (on a node that Slurm lost) and write. What has its name is never
changed: a checkpoint's files are the same files in both folders, by hard links. What is appended to is copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msm_hpc.base.files import sync
from msm_hpc.base.progress import FILE as PROGRESS_FILE
from msm_hpc.training.checkpoints.hashes import is_whole

RESUME, STEP = "resume", "step-"
_CHECKPOINT, _SUMMARY = "checkpoint", "summary.json"


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    """Bring into the empty ``out`` what the attempt that got furthest had saved; nothing where none had.

    Checkpoints come first, since what is appended to must know of all their steps. Only whole ones come: the others are
    being deleted. All is on disk when this returns, since the folders of earlier attempts are deleted then.
    """
    while (furthest := max(reversed(earlier), key=_progress, default=None)) and (found := _whole(furthest)):
        brought = [each for each in found if _bring_checkpoint(each, out / each.relative_to(furthest))]
        if brought:
            _copy_the_rest(furthest, out, finished=furthest / _CHECKPOINT in brought)
            return  # else all were deleted meanwhile, since there are newer ones


def resume_checkpoints(folder: Path) -> list[Path]:
    """The resume checkpoints in ``folder``, oldest first."""
    return sorted(folder.glob(f"{STEP}*"))


def saved_steps(out: Path) -> int:
    """The optimizer steps of the newest resume checkpoint of an attempt; 0 where there is none."""
    newest = resume_checkpoints(out / RESUME)[-1:]
    return int(newest[0].name.removeprefix(STEP)) if newest else 0


def _progress(out: Path) -> tuple[bool, str]:
    """How far an attempt got: whether the run was finished, and its newest resume checkpoint."""
    names = [path.name for path in _whole(out)]
    return _CHECKPOINT in names, max((name for name in names if name != _CHECKPOINT), default="")


def _whole(out: Path) -> list[Path]:
    """The whole checkpoints of an attempt: of a finished one its result, then its resume checkpoints, newest first."""
    result = [out / _CHECKPOINT] if (out / _SUMMARY).exists() else []
    return [path for path in (*result, *reversed(resume_checkpoints(out / RESUME))) if is_whole(path)]


def _bring_checkpoint(source: Path, target: Path) -> bool:
    """Link the files of a checkpoint; whether they all were still there."""
    _all_files(source, target, _link)
    if is_whole(target):
        return True
    shutil.rmtree(target, ignore_errors=True)
    return False


def _copy_the_rest(source: Path, out: Path, finished: bool) -> None:
    left = {_CHECKPOINT, RESUME, PROGRESS_FILE} | (set() if finished else {_SUMMARY})
    for path in source.iterdir():
        if path.name not in left and not path.name.startswith("."):
            _all_files(path, out / path.name, _copy)
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        sync(folder)


def _all_files(source: Path, target: Path, bring: Callable[[Path, Path], object]) -> None:
    """``bring`` every file of a folder, or one file; but what is deleted meanwhile."""
    with suppress(FileNotFoundError):
        for file in source.rglob("*") if source.is_dir() else (source,):
            if file.is_file():
                place = target / file.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                bring(file, place)


def _copy(source: Path, target: Path) -> None:
    shutil.copy2(source, target)
    sync(target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links between folders
        _copy(source, target)
