"""Which rank hangs: it lives, but it does not come where the others wait for it.

One rank that hangs makes all stand still, so where they stand has to tell who is the cause. Each rank publishes the
innermost line of Python in its main thread. Rank 1 loops for ever in its data, the others wait for its gradients::

    rank 0  distributed_c10d:3087  waits   since 61 s
    rank 1  data:94                works                   <- hangs
    rank 2  distributed_c10d:3087  waits   since 64 s

Where all wait (rank 1 in a collective that the others never called), the one that stood still first is named.

A step is *overdue* when it takes five times as long as the longest before it, and at least :data:`HANG_SECONDS`. That
alone is no hang: a first step that takes half an hour goes on as long as no rank waits in one line for
:data:`HANG_SECONDS`. Outside of steps (loading, saving, the held-out loss) there is nothing to compare with, and only
the timeout of the process groups ends a hang. Not told apart: a kernel that never ends, on a rank that waits for its
own GPU as the others do; it is named only if it stood still first.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

HANG_SECONDS = 75.0  # longer than what tells a dead rank, whose own message is the better one
# The first step compiles and reads cold files. Below the timeout of collectives, which names nobody.
MOST_SECONDS = 15 * 60.0
_TIMES_LONGEST = 5
# Innermost in these, a thread waits for another rank, or for the GPU to have heard of it.
_WAITING = (
    "torch.cuda",  # synchronize(), after Megatron has sent to another pipeline stage
    "torch.distributed",
    "megatron.core.distributed",
    "megatron.core.optimizer",
    "megatron.core.pipeline_parallel",
    "megatron.core.tensor_parallel",
    "msm_hpc.training.loop",
    "msm_hpc.training.watch.signals",
)


@dataclass(frozen=True)
class Place:
    """Where a rank's main thread is: ``module:line``, and whether that is a place to wait for others."""

    line: str
    waits: bool

    def __str__(self) -> str:
        return f"{'waits' if self.waits else 'works'} {self.line}"

    @classmethod
    def read(cls, text: str) -> Place:
        """The inverse of ``str``."""
        state, line = text.split(" ", 1)
        return cls(line, state == "waits")


def here() -> Place:
    """The place of this process's main thread, asked from another thread."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    module = str(frame.f_globals.get("__name__", "?"))
    waits = any(module == name or module.startswith(f"{name}.") for name in _WAITING)
    return Place(f"{module}:{frame.f_lineno}", waits)


def stack() -> str:
    """The whole stack of this process's main thread."""
    return "".join(traceback.format_stack(sys._current_frames()[threading.main_thread().ident or 0]))


@dataclass(frozen=True)
class Stand:
    """A rank's place, and since when (seconds on the watcher's clock) it has been just there."""

    place: Place
    since: float

    def moved(self, place: Place, now: float) -> Stand:
        """The stand after ``place`` was heard."""
        return self if place == self.place else Stand(place, now)


def hanging(stands: list[Stand], now: float) -> int | None:
    """The index of the one that the others wait for: one that works rather than waits, then the first to stand.

    None where no rank has waited in one place for :data:`HANG_SECONDS`: the step is slow, but it goes on.
    """
    if not any(stand.place.waits and now - stand.since > HANG_SECONDS for stand in stands):
        return None
    return min(range(len(stands)), key=lambda rank: (stands[rank].place.waits, stands[rank].since))


class Pace:
    """How long the steps of this rank take; the main thread sets it, the watchdog's threads read it."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._longest: float | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """To be open during each step, up to where all ranks have met."""
        self._began = time.monotonic()
        try:
            yield
            self._longest = max(self._longest or 0.0, time.monotonic() - self._began)
        finally:
            self._began = None

    def forgive(self, now: float) -> None:
        """Let the step begin now: this process was stopped meanwhile."""
        if self._began is not None:
            self._began = now

    def slow(self, now: float) -> bool:
        """Whether the step that runs has been running for :data:`HANG_SECONDS`; more is no hang yet."""
        began = self._began
        return began is not None and now - began > HANG_SECONDS

    def overdue(self, now: float) -> float | None:
        """For how many seconds the step that runs has been running, where that is too long."""
        began, longest = self._began, self._longest
        if began is None:
            return None
        limit = MOST_SECONDS if longest is None else max(HANG_SECONDS, _TIMES_LONGEST * longest)
        return now - began if now - began > min(limit, MOST_SECONDS) else None
