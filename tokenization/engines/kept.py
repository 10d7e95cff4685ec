"""The folder where tables are kept for the next task: ``~/.cache/msm_hpc/bpe``, or below ``XDG_CACHE_HOME``.

It may be deleted at any time. Where it cannot be written, each task makes its tables anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import orjson

from tokenization.engines.tables import Tables

_ARRAYS = ("kinds", "byte_tokens", "merges")


def kept_path(*of: str) -> Path:
    """Where the tables of these things lie: hashes and versions of all that they depend on."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "msm_hpc" / "bpe" / f"{hashlib.sha256(orjson.dumps(of)).hexdigest()}.npz"


def read_kept(path: Path) -> Tables | None:
    """The tables, or None where they are not kept whole."""
    try:
        with np.load(path) as file:
            others = orjson.loads(file["others"].tobytes())
            return Tables(**{name: file[name] for name in _ARRAYS}, **others)
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile):
        return None


def keep(path: Path, tables: Tables) -> None:
    """Write the tables, whole or not at all."""
    others = np.frombuffer(orjson.dumps({"digits": tables.digits, "whole": tables.whole}), np.uint8)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial", delete=False) as file:
            try:
                np.savez(file, others=others, **{name: getattr(tables, name) for name in _ARRAYS})
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
