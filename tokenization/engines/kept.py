"""The folder where tables are kept for the next task: ``~/.cache/msm_hpc/bpe``, or below ``XDG_CACHE_HOME``.

It may be deleted at any time, as may the ``.partial`` files that killed tasks leave there. Where it cannot be written,
each task makes its tables anew. Who can write there is trusted with them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson

from tokenization.engines.tables import Tables

_ARRAYS = ("kinds", "byte_tokens", "merges")
_DIGEST_BYTES = hashlib.sha256().digest_size


def kept_path(of: list[str]) -> Path:
    """Where the tables of these things lie: hashes and versions of all that they depend on.

    Raises:
        OSError: there is no such folder: the user has no home.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if not os.path.isabs(cache):
        raise FileNotFoundError(cache)
    return Path(cache, "msm_hpc", "bpe", hashlib.sha256(orjson.dumps(of)).hexdigest())


def read_kept(of: list[str]) -> Tables | None:
    """The tables, or None where they are not kept whole."""
    try:
        data = kept_path(of).read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with np.load(BytesIO(content)) as file:
        return Tables(**{name: file[name] for name in _ARRAYS}, **orjson.loads(file["others"].tobytes()))


def keep(of: list[str], tables: Tables) -> None:
    """Write the tables, whole or not at all."""
    others = np.frombuffer(orjson.dumps({"digits": tables.digits, "whole": tables.whole}), np.uint8)
    content = BytesIO()
    np.savez(content, others=others, **{name: getattr(tables, name) for name in _ARRAYS})
    with suppress(OSError):
        path = kept_path(of)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial", delete=False) as file:
            try:
                file.write(hashlib.sha256(content.getvalue()).digest() + content.getvalue())
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except OSError:
                os.unlink(file.name)
                raise
