"""How far a running stage is, in one small file of its output folder."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from msm_hpc.base.files import write_text
from msm_hpc.base.typed_json import read_if_whole

FILE = "progress.json"
SECONDS_BETWEEN_WRITES = 0.5


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units; ``unit`` is a plural noun such as ``"tokens"``."""

    done: int
    total: int
    unit: str


_PROGRESS = TypeAdapter(Progress)


class ProgressFile:
    """Writes ``out/progress.json`` at most twice a second, and always for the last unit."""

    def __init__(self, out: Path, total: int, unit: str) -> None:
        self._path = out / FILE
        self._total = total
        self._unit = unit
        self._done = 0
        self._last_write = 0.0

    def update(self, done: int) -> None:
        """Report that ``done`` units are finished."""
        self._done = done
        if done == self._total or time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what was last reported, however soon after the time before."""
        write_text(self._path, json.dumps(asdict(Progress(self._done, self._total, self._unit))), durable=False)
        self._last_write = time.monotonic()


def read_progress(out: Path) -> Progress | None:
    """The progress last reported in ``out``; None if none was."""
    return read_if_whole(out / FILE, _PROGRESS)
