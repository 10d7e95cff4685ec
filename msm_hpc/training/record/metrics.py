"""``metrics.jsonl`` and ``heldout.jsonl``: each step once, however often the run was killed and resumed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.files import write_text

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
        """Keep the first ``done`` steps that the file holds, and drop the rest, even a torn last line."""
        kept = path.read_text(encoding="utf-8").splitlines()[:done] if done else []
        assert len(kept) == done, f"{path} has {len(kept)} lines, {done} steps are done"
        self.steps = [StepMetrics(**json.loads(line)) for line in kept]
        write_text(path, "".join(line + "\n" for line in kept))
        self._file = path.open("a", encoding="utf-8")

    def append(self, metrics: StepMetrics) -> None:
        """Add one step."""
        self.steps.append(metrics)
        self._file.write(json.dumps(asdict(metrics)) + "\n")
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
        lines = path.read_text(encoding="utf-8").splitlines() if done and path.exists() else []
        losses = [FieldLoss(**json.loads(line)) for line in lines]
        self._path, self._losses = path, [each for each in losses if each.step <= done]

    def append(self, losses: list[FieldLoss]) -> None:
        """Add what was measured after one step; it is on disk when this returns."""
        self._losses += losses
        write_text(self._path, "".join(json.dumps(asdict(each)) + "\n" for each in self._losses))
