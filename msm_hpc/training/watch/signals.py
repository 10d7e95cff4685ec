"""Signals that ask a run to stop: noticed when they come, obeyed between two steps.

Slurm sends SIGUSR2 some time before the time limit (``--signal`` in the script), and SIGTERM at ``scancel`` and
preemption; Ctrl-C is SIGINT. They do not reach all ranks at one moment: if each obeyed at its own next step, one could
stop after step 7 while another waits in step 8 for it. So a handler only takes note, and after every step the ranks
agree on the largest signal that any has noticed; all then stop at the same step, and save the same.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import torch
from torch import distributed

from msm_hpc.base.errors import StoppedBySignalError

STOPPING = (signal.SIGINT, signal.SIGUSR2, signal.SIGTERM)  # the one with the largest number wins: SIGTERM


@dataclass
class StopRequest:
    """Whether this rank was asked to stop: ``received`` is the last stopping signal that reached it, 0 if none did."""

    received: int = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: take note of it."""
        self.received = number


@contextlib.contextmanager
def noticed() -> Iterator[StopRequest]:
    """While this is open, the signals that stop are noted and do nothing else; open it in the main thread.

    Submitit's handlers, which it sets in the process of every rank, are restored afterwards.
    """
    request = StopRequest()
    before = {each: signal.signal(each, request.note) for each in STOPPING}
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def largest_of_all_ranks(*own: int) -> list[int]:
    """The maximum of each of the numbers over all ranks, in one collective."""
    numbers = torch.tensor(own, dtype=torch.int64, device=torch.cuda.current_device())
    distributed.all_reduce(numbers, op=distributed.ReduceOp.MAX)
    found: list[int] = numbers.tolist()
    return found


def stopped(number: int, done: int, steps: int, began: int) -> StoppedBySignalError:
    """The error to raise once ``done`` of ``steps`` steps are saved; this attempt ``began`` after that many steps."""
    asked = signal.Signals(number)
    return StoppedBySignalError(
        f"{asked.name} asked the run to stop: {done} of {steps} optimizer steps are done and saved; `msm run` "
        "resumes from there",
        asked,
        progressed=done > began,
    )
