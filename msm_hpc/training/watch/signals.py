"""Signals that ask a run to stop: noticed when they come, obeyed between two steps.

Slurm sends SIGUSR2 some time before the time limit (``--signal`` in the script), and SIGTERM at ``scancel`` and
preemption; Ctrl-C is SIGINT. They do not reach all ranks at one moment: if each obeyed at its own next step, one could
stop after step 7 while another waits in step 8 for it. So a handler only takes note, and after every step the ranks
agree by the largest signal that any has noticed; the step at which all stop is then the same, and so is what they save.
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
    """``received`` is the number of the last stopping signal that reached this rank, 0 where none did."""

    received: int = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler."""
        self.received = number


@contextlib.contextmanager
def noticed() -> Iterator[StopRequest]:
    """While this is open, the signals that stop are noted and do nothing else; to be opened in the main thread.

    Submitit's handlers, which it sets in the process of every rank, are put back afterwards.
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
    """What to raise once ``done`` of ``steps`` steps are saved; this run ``began`` after that many steps."""
    asked = signal.Signals(number)
    return StoppedBySignalError(
        f"{asked.name} asked the run to stop: {done} of {steps} optimizer steps are done and saved; `msm run` goes on "
        "from there",
        asked,
        progressed=done > began,
    )
