"""Exceptions that mean something between packages: what a user can fix, and two ways for a job to end early."""

from __future__ import annotations

from signal import Signals


class UserError(ValueError):
    """Something the user gave is wrong; the message says what, why and the fix.

    The command line prints the message alone, without a traceback, and exits with code 2.
    """


class StoppedBySignalError(Exception):
    """A signal asked a stage to stop, and it has saved its work and stopped.

    ``progressed`` says whether more is saved than when it began: if so, running it again gets further.
    """

    def __init__(self, message: str, signal: Signals, progressed: bool) -> None:
        super().__init__(message)
        self.signal = signal
        self.progressed = progressed


class RankLostError(Exception):
    """Another rank of the job, ``rank``, failed, died or stands still; the message says which and how."""

    def __init__(self, message: str, rank: int) -> None:
        super().__init__(message)
        self.rank = rank
