"""``metrics.jsonl`` and ``heldout.jsonl``: each step once, however often the run was killed and resumed."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from msm_hpc.base.files import write_text

METRICS, HELD_OUT = "metrics.jsonl", "heldout.jsonl"
FEW_STEPS = 100
"""Optimizer steps of a run; fewer rarely teach a model anything."""


Row = TypeVar("Row", "StepMetrics", "FieldLoss")


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
        self.steps = _steps(path)[:done]
        assert len(self.steps) == done, f"{path} has {len(self.steps)} steps, {done} are done"
        write_text(path, "".join(map(_line, self.steps)))
        self._file = path.open("a", encoding="utf-8")

    def append(self, metrics: StepMetrics) -> None:
        """Add one step."""
        self.steps.append(metrics)
        self._file.write(_line(metrics))
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
        losses = _rows(path, FieldLoss) if done else []
        self._path, self._losses = path, [each for each in losses if each.step <= done]

    def append(self, losses: list[FieldLoss]) -> None:
        """Add what was measured after one step; it is on disk when this returns."""
        self._losses += losses
        write_text(self._path, "".join(map(_line, self._losses)))


def recorded_steps(out: Path) -> int:
    """Of how many steps the files in ``out`` have all lines; a torn line ends a file."""
    steps, held_out = len(_steps(out / METRICS)), out / HELD_OUT
    if not held_out.exists():
        return steps
    measured = _rows(held_out, FieldLoss)
    if 0 < len(measured) == len(held_out.read_bytes().splitlines()):
        return steps
    return min(steps, max(measured[-1].step - 1, 0) if measured else 0)


def _steps(path: Path) -> list[StepMetrics]:
    """The steps before the first that is missing or torn."""
    numbered = enumerate(_rows(path, StepMetrics), start=1)
    return [row for _, row in takewhile(lambda each: each[0] == each[1].step, numbered)]


def _rows(path: Path, of: type[Row]) -> list[Row]:
    """The lines of a file before the first that is torn or damaged; none where there is no file."""
    rows: list[Row] = []
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
        for line in path.read_bytes().splitlines():
            rows.append(of(**json.loads(line)))
    return rows


def _line(row: StepMetrics | FieldLoss) -> str:
    return json.dumps(vars(row)) + "\n"
