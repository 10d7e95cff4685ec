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

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: stop here."""
        self.note(number, frame)
        self.obey("before it had saved anything")

    def obey(self, while_doing: str) -> None:
        """Stop here if that was asked for; nothing is to be saved yet.

        Raises:
            StoppedBySignalError: it was.
        """
        if self.received:
            asked = signal.Signals(self.received)
            raise StoppedBySignalError(f"{asked.name} asked the run to stop {while_doing}", asked, progressed=False)


def current_request() -> StopRequest:
    """The request that handles signals now: one that came while the job started is not lost when the stage begins."""
    outer = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return outer if isinstance(outer, StopRequest) else StopRequest()


@contextlib.contextmanager
def noticed() -> Iterator[StopRequest]:
    """While this is open, :func:`current_request` notes the signals that stop, and they do nothing else.

    Open it in the main thread. At the end the handlers before are set again, such as those of `launch/entry.py`.
    """
    before = {each: signal.getsignal(each) for each in STOPPING}
    request = current_request()
    for each in STOPPING:
        signal.signal(each, request.note)
    try:
        yield request
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def obeyed_at_once(request: StopRequest) -> Iterator[None]:
    """Inside of :func:`noticed`: while this is open, a signal stops what runs, also one that was noted before.

    Raises:
        StoppedBySignalError: SIGUSR2 or SIGTERM came, or any signal did before; at SIGINT, KeyboardInterrupt.
    """
    before = {each: signal.getsignal(each) for each in STOPPING}
    try:
        for each in STOPPING:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else request.stop)
        request.obey("before it began")
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
