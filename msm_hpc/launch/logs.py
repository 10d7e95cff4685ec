"""The logs of jobs."""

from __future__ import annotations

from pathlib import Path

LOG_LINES = 12


def tail(log: str) -> list[str]:
    """The last lines of a log file; none where there is no such file."""
    path = Path(log)
    return path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if path.is_file() else []
