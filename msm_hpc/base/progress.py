"""How far a running stage is and what its time went to, in one small file of its output folder."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from msm_hpc.base.files import write_text
from msm_hpc.base.typed_json import read_if_whole

FILE = "progress.json"
SECONDS_BETWEEN_WRITES = 0.5


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units; ``unit`` is a plural noun such as ``"tokens"``.

    ``began`` were done when this attempt began. ``seconds`` of it went to parts such as ``load``, as far as they are
    measured.
    """

    done: int
    total: int
    unit: str
    began: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)


class ProgressFile:
    """Writes ``out/progress.json`` at most twice a second, and always for the last unit."""

    def __init__(self, out: Path, total: int, unit: str, began: int = 0) -> None:
        self._path = out / FILE
        self._total = total
        self._unit = unit
        self._began = self._done = began
        self._last_write = 0.0
        self.seconds: dict[str, float] = defaultdict(float)

    def update(self, done: int) -> None:
        """Report that ``done`` units are finished."""
        self._done = done
        if done == self._total or time.monotonic() - self._last_write >= SECONDS_BETWEEN_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write what was last reported, however soon after the time before."""
        progress = Progress(self._done, self._total, self._unit, self._began, dict(self.seconds))
        write_text(self._path, json.dumps(asdict(progress)), durable=False)
        self._last_write = time.monotonic()

    @contextlib.contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Add the time that the block takes to a part, whose sum the next write has."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - began


def read_progress(out: Path) -> Progress | None:
    """The progress last reported in ``out``; None if none was."""
    return read_if_whole(out / FILE, Progress)
