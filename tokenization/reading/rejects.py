"""Rows that cannot be used: the first one stops the task, or they are skipped, counted and listed up to a ceiling."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Literal

import orjson

from msm_hpc.base.errors import UserError
from tokenization.reading.rows import BadRow

REJECTED = "rejected.jsonl"
ROWS_BEFORE_EARLY_STOP = 10_000
"""Past so many rows a share of bad ones above the ceiling stops the task at once, not only at its end."""


def too_many(bad: int, rows: int, max_bad: float, finished: bool) -> bool:
    """Whether more than one row and more than ``max_bad`` of ``rows`` are ``bad``, of many rows or of all."""
    return bad > max(1, max_bad * rows) and (finished or rows >= ROWS_BEFORE_EARLY_STOP)


class Rejects:
    """Writes ``rejected.jsonl``, a line for each skipped row; the file is there only if there is one.

    Attributes:
        counts: reason to how many rows.

    Raises:
        BadRow: from :meth:`add`, where ``on_bad`` is ``stop``.
        UserError: from :meth:`check`.
    """

    def __init__(self, folder: Path, on_bad: Literal["stop", "skip"], max_bad: float) -> None:
        self.counts: Counter[str] = Counter()
        self._path = folder / REJECTED
        self._on_bad = on_bad
        self._max_bad = max_bad
        self._last: BadRow | None = None

    def __enter__(self) -> Rejects:
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self.counts:
            self._path.unlink()

    def add(self, error: BadRow) -> None:
        """Skip a row, or stop at it; one of which several turns cannot be used counts once."""
        if self._on_bad == "stop":
            raise error
        if self._last is not None and error.place == self._last.place:
            return
        self.counts[error.reason] += 1
        record = {"place": str(error.place), "reason": error.reason, "message": str(error)}
        self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self._last = error

    def check(self, rows: int, finished: bool) -> None:
        """Stop where :func:`too_many` of ``rows`` were rejected."""
        bad = self.counts.total()
        if too_many(bad, rows, self._max_bad, finished):
            raise UserError(
                f"{bad} of {rows} rows cannot be used, more than max_bad={self._max_bad:g} allows; fix them, or raise "
                f"it (--max-bad). By reason: {dict(self.counts.most_common())}; the last is {self._last}"
            )
