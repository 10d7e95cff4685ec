"""``metrics.jsonl`` and ``heldout.jsonl``: each step once, however often the run was killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.files import write_text

METRICS, HELD_OUT = "metrics.jsonl", "heldout.jsonl"
FEW_STEPS = 100
"""Optimizer steps of a run; fewer rarely teach a model anything."""


@dataclass(frozen=True)
class StepMetrics:
    """The metrics of one optimizer step: a line of ``metrics.jsonl``.

    ``step`` counts from 1. ``loss`` is in nats a trainable token, averaged over the whole global batch; ``grad_norm``
    is taken before clipping, and is 0 where the update was ``skipped``; ``tokens`` leaves padding out; ``rows`` counts
    the packed rows of this step and all before it; ``flops`` are the model's operations by the formula of
    :mod:`msm_hpc.model.flops`, over all ranks; ``seconds`` is wall time; ``peak_memory`` is in bytes, of the rank
    that ever held the most.
    """

    step: int
    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    trainable_tokens: int
    rows: int
    flops: int
    seconds: float
    peak_memory: int = 0
    skipped: bool = False


class MetricsFile:
    """Appends steps to ``path``; only rank 0 has one."""

    def __init__(self, path: Path, done: int) -> None:
        """Keep the first ``done`` steps, at most :func:`recorded_steps`, and drop the rest, even a torn last line."""
        kept = _rows(path)[:done]
        assert len(kept) == done, f"{path} has {len(kept)} steps, {done} are done"
        self.steps = [StepMetrics(**row) for row in kept]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = path.open("a", encoding="utf-8")

    def append(self, metrics: StepMetrics) -> None:
        """Add one step."""
        self.steps.append(metrics)
        self._file.write(json.dumps(vars(metrics)) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Make sure that all steps are on disk, before a resume checkpoint says that they are done."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish writing."""
        self.sync()
        self._file.close()


@dataclass(frozen=True)
class FieldLoss:
    """A line of ``heldout.jsonl``: after ``step`` steps, nats a token over the ``tokens`` whose ``field`` is ``value``.

    ``field`` and ``value`` are None for all held-out tokens together.
    """

    step: int
    field: str | None
    value: str | None
    loss: float
    tokens: int


class HeldOutFile:
    """Appends losses to ``path``; only rank 0 has one."""

    def __init__(self, path: Path, done: int) -> None:
        """Keep what was measured up to step ``done``; if no step is done, all is measured again."""
        losses = [FieldLoss(**row) for row in _rows(path)] if done else []
        self._path, self._losses = path, [each for each in losses if each.step <= done]

    def append(self, losses: list[FieldLoss]) -> None:
        """Add what was measured after one step; it is on disk when this returns."""
        self._losses += losses
        write_text(self._path, "".join(json.dumps(asdict(each)) + "\n" for each in self._losses))


def recorded_steps(out: Path) -> int:
    """Of how many steps the files in ``out`` have all lines; a torn line ends a file."""
    steps, held_out = len(_rows(out / METRICS)), out / HELD_OUT
    if not held_out.exists():
        return steps
    measured = _rows(held_out)
    if 0 < len(measured) == len(held_out.read_bytes().splitlines()):
        return steps
    return min(steps, max(measured[-1]["step"] - 1, 0) if measured else 0)


def _rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a file before the first that is torn; none where there is no file."""
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        for line in path.read_bytes().splitlines():
            rows.append(json.loads(line))
    return rows
