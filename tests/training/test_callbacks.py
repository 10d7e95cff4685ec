"""What happens after a step, without any rank: when a resume checkpoint is begun, completed, and the run stopped."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from msm_hpc.base.errors import StoppedBySignalError
from msm_hpc.config.training import Layout
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.record.metrics import StepMetrics


class Log:
    """A saver, records and held-out loss that only write down what is called."""

    every = 4

    def __init__(self) -> None:
        self.calls: list[str] = []

    def timing(self, part: str) -> nullcontext[None]:
        return nullcontext()

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append(name)


def calls(step: int, **changes: Any) -> list[str]:
    """What happens after ``step`` of 9, with a save every 3 steps."""
    with process_groups(Layout()):
        from msm_hpc.training import callbacks
        from msm_hpc.training.trainer import StepEnd

    log: Any = Log()
    metrics = StepMetrics(step, 1.0, 0.5, 1e-3, 100, 60, 4 * step, 10**6, 0.1)
    end = replace(StepEnd(metrics, last=step == 9, signal=0, saving=False), **changes)
    for each in (
        callbacks.Record(log),
        callbacks.CompleteSave(log, log),
        callbacks.MeasureHeldOut(log, log, log),
        callbacks.Save(log, 3, log),
        callbacks.StopOnSignal(log, log, began=0, steps=9),
    ):
        try:
            each.after_step(end)
        except StoppedBySignalError as error:
            log.calls.append(error.signal.name)
    found: list[str] = log.calls
    return found


@pytest.mark.parametrize(
    ("step", "changes", "expected"),
    [
        (1, {}, ["add", "finish"]),
        (1, {"saving": True}, ["add"]),
        (3, {}, ["add", "finish", "sync", "begin"]),
        (4, {}, ["add", "finish", "measure", "add_held_out"]),
        (9, {}, ["add", "finish", "measure", "add_held_out"]),
        (1, {"signal": signal.SIGTERM}, ["add", "finish", "sync", "begin", "finish", "sync", "SIGTERM"]),
        (9, {"signal": signal.SIGTERM}, ["add", "finish", "measure", "add_held_out"]),
    ],
    ids=["plain", "still saving", "save due", "held out due", "last", "signal", "signal at the last"],
)
def test_what_happens_after_a_step(step: int, changes: dict[str, Any], expected: list[str]) -> None:
    assert calls(step, **changes) == expected
