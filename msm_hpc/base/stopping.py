"""Signals that ask a job to stop are noted when they come, and obeyed where nothing is lost.

Slurm sends SIGUSR2 some time before the time limit (``--signal`` in the script), and SIGTERM at ``scancel`` and
preemption; Ctrl-C is SIGINT.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from msm_hpc.base.errors import StoppedBySignalError

STOPPING = (signal.SIGINT, signal.SIGUSR2, signal.SIGTERM)  # the one with the largest number wins: SIGTERM


@dataclass
class StopRequest:
    """Whether this process was asked to stop: ``received`` is the last signal that reached it, 0 if none did."""

    received: int = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: take note of it."""
        self.received = number

    def obey(self, while_doing: str) -> None:
        """Stop here if that was asked for; nothing is to be saved yet.

        Raises:
            StoppedBySignalError: it was.
        """
        if self.received:
            asked = signal.Signals(self.received)
            raise StoppedBySignalError(f"{asked.name} asked the run to stop {while_doing}", asked, progressed=False)


@contextlib.contextmanager
def noticed() -> Iterator[StopRequest]:
    """While this is open, the signals that stop are noted and do nothing else; open it in the main thread.

    Within another one it is the same: a signal that came while the job started is not lost when the stage begins. At
    the end the handlers before are set again, such as those that submitit sets in the process of every rank.
    """
    before = {each: signal.getsignal(each) for each in STOPPING}
    outer = getattr(before[signal.SIGTERM], "__self__", None)
    request = outer if isinstance(outer, StopRequest) else StopRequest()
    for each in STOPPING:
        signal.signal(each, request.note)
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
