"""Finds the rank that hangs: it is alive, but does not come where the others wait for it.

One rank that hangs stops all of them, so the lines at which they stand have to show which is the cause. Each rank
publishes the innermost line of Python in its main thread. Rank 1 loops forever in its data, the others wait for its
gradients::

    rank 0  distributed_c10d:3087  waits   since 61 s
    rank 1  data:94                works                   <- hangs
    rank 2  distributed_c10d:3087  waits   since 64 s

Where all wait (rank 1 in a collective that the others never called), the one that has stood still longest is named.

A step is *overdue* when it takes five times as long as the longest before it, and at least :data:`HANG_SECONDS`. That
alone is no hang: a first step may take half an hour, as long as no rank waits at one line for :data:`HANG_SECONDS`.
Outside of steps (loading, saving, the held-out loss) there is nothing to compare with, and only the timeout of the
process groups ends a hang. One case is not recognised: a kernel that never ends, on a rank that waits for its own GPU
as the others do; that rank is named only if it stood still first.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HANG_SECONDS = 75.0  # longer than it takes to find a dead rank, which makes the better message
# The first step compiles and reads cold files. Below the timeout of collectives, which names no rank.
MOST_SECONDS = 15 * 60.0
_TIMES_LONGEST = 5
# A thread whose innermost line is in one of these waits for another rank, or for the GPU to hear from it.
_WAITING = (
    "torch.cuda",  # synchronize(), after Megatron has sent to another pipeline stage
    "torch.distributed",
    "megatron.core.distributed",
    "megatron.core.optimizer",
    "megatron.core.pipeline_parallel",
    "megatron.core.tensor_parallel",
    "msm_hpc.training.step",
    "msm_hpc.training.watch.signals",
)


@dataclass(frozen=True)
class CodeLine:
    """The line that a rank's main thread is at, ``module:number``, and whether it waits there for other ranks."""

    line: str
    waits: bool

    def __str__(self) -> str:
        return f"{'waits' if self.waits else 'works'} {self.line}"

    @classmethod
    def parse(cls, text: str) -> CodeLine:
        """The inverse of ``str``."""
        state, line = text.split(" ", 1)
        return cls(line, state == "waits")


def main_thread_line() -> CodeLine:
    """The innermost line of this process's main thread, read from another thread."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    module = str(frame.f_globals.get("__name__", "?"))
    waits = any(module == name or module.startswith(f"{name}.") for name in _WAITING)
    return CodeLine(f"{module}:{frame.f_lineno}", waits)


def main_thread_stack() -> str:
    """The whole stack of this process's main thread."""
    return "".join(traceback.format_stack(sys._current_frames()[threading.main_thread().ident or 0]))


@dataclass(frozen=True)
class Standing:
    """The line that a rank is at, and since when (seconds on the observer's clock) it has been seen at that line."""

    at: CodeLine
    since: float

    def seen(self, at: CodeLine, now: float) -> Standing:
        """The standing after the rank was seen at ``at``."""
        return self if at == self.at else Standing(at, now)


def hanging_rank(standings: Sequence[Standing], now: float) -> int | None:
    """The index of the rank that the others wait for: one that works rather than waits, then the first to stand still.

    None if no rank has waited at one line for :data:`HANG_SECONDS`: the step is slow, but it progresses.
    """
    if not any(standing.at.waits and now - standing.since > HANG_SECONDS for standing in standings):
        return None
    return min(range(len(standings)), key=lambda rank: (standings[rank].at.waits, standings[rank].since))


class StepTimer:
    """Times the steps of this rank; the main thread runs steps in it, the watchdog's threads read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began: float | None = None
        self._longest: float | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Open this during each step, until all ranks have met."""
        with self._lock:
            self._began = time.monotonic()
        try:
            yield
            with self._lock:
                took = time.monotonic() - (self._began or 0.0)
                self._longest = max(self._longest or 0.0, took)
        finally:
            with self._lock:
                self._began = None

    def restart(self, now: float) -> None:
        """Let the current step begin now, because this process was stopped in the meantime."""
        with self._lock:
            if self._began is not None:
                self._began = now

    def is_long(self, now: float) -> bool:
        """Whether the current step has taken :data:`HANG_SECONDS`; that alone is no hang yet."""
        with self._lock:
            return self._began is not None and now - self._began > HANG_SECONDS

    def overdue(self, now: float) -> float | None:
        """How many seconds the current step has taken, if that is too long."""
        with self._lock:
            began, longest = self._began, self._longest
        if began is None:
            return None
        limit = MOST_SECONDS if longest is None else max(HANG_SECONDS, _TIMES_LONGEST * longest)
        return now - began if now - began > min(limit, MOST_SECONDS) else None
