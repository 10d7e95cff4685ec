"""The fast engine: ``fastokens``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tokenization.encoded import Ragged


class FastEngine:
    """``fastokens``, in one thread.

    Its own threads take a third more CPU time, most of it spent waiting for each other; array tasks share the work
    better. A value that the user has given ``FASTOKENS_BPE_THREADS`` is kept.

    Raises:
        ValueError: it cannot load this tokenizer.
    """

    def __init__(self, path: Path, *, special_text: bool = False) -> None:
        # Imported here: a task that does without it starts without it.
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        from importlib.metadata import version

        import fastokens

        self.name = f"fastokens {version('fastokens')}"
        self._tokenizer = fastokens.Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._special_text = special_text

    def encode(self, texts: Sequence[str], end: int | None = None) -> Ragged:
        """The token ids of each text, and ``end`` after them."""
        ids, offsets = self._tokenizer.encode_batch_flat(list(texts), split_special_tokens=not self._special_text)
        return Ragged(np.frombuffer(ids, np.int32), np.frombuffer(offsets, np.int64)).ended(end)
