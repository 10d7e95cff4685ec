"""Signals that ask a run to stop: noticed when they come, obeyed between two steps.

They do not reach all ranks at one moment: if each obeyed at its own next step, one could stop after step 7 while
another waits in step 8 for it. So a handler only takes note (:mod:`msm_hpc.base.stopping`), and after every step the
ranks agree on the largest signal that any has noticed; all then stop at the same step, and save the same.
"""

from __future__ import annotations

import signal

import torch
from torch import distributed

from msm_hpc.base.errors import StoppedBySignalError


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
