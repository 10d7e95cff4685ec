"""Folders that appear when they are complete."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sync


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that is renamed to it at the end, or removed after an exception.

    Those that killed runs left are removed first. One of a run that still lives is too, which then fails: two runs for
    one folder are a job that was started again, and the first process, on a node that Slurm lost.

    Raises:
        UserError: ``folder`` exists, or cannot be made.
    """
    if os.path.lexists(folder):
        raise UserError(f"{folder}: exists already; remove it or give another --out")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        left = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.partial")  # not those of NAME.v2
        for path in folder.parent.iterdir():
            if left.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
        partial.mkdir()
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error.strerror}); give another --out") from error
    try:
        yield partial
        for path in (*partial.iterdir(), partial):
            sync(path)
        partial.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
