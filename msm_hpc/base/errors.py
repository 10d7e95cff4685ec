"""Exceptions that mean something between packages: what a user can fix, and ways for a job to end early."""

from __future__ import annotations

from signal import Signals


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, why and the fix.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


class DivergedError(UserError):
    """A training whose loss, gradient or weights are not finite numbers any more."""


class StoppedBySignalError(Exception):
    """A signal asked a stage to stop, and it has saved its work and stopped.

    ``progressed`` says whether more is saved than when it began: if so, running it again gets further.
    """

    def __init__(self, message: str, signal: Signals, progressed: bool) -> None:
        super().__init__(message)
        self.signal = signal
        self.progressed = progressed


class ServerLostError(Exception):
    """A server of this job ended before the job was done with it; the message quotes its last lines.

    What it answered is on disk. That it ended is no fault of what was asked, so that the step may run again.
    """


class RankLostError(Exception):
    """Another rank of the job, ``rank`` on ``host``, failed, died or stands still; the message says how."""

    def __init__(self, message: str, rank: int, host: str = "") -> None:
        super().__init__(message)
        self.rank = rank
        self.host = host
