"""The live view of a local run: a bar for the whole, a line for each running step, and the time that is left."""

from __future__ import annotations

import time
from collections import defaultdict
from statistics import fmean
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from msm_hpc.campaign.local_run import Board
from msm_hpc.campaign.store import Store
from msm_hpc.progress import read_progress


class Display:
    """Call :meth:`show` with each look at the board; on a pipe it prints a line for each finished step instead."""

    def __init__(self, store: Store, console: Console) -> None:
        self._store = store
        self._console = console
        self._clock = Clock(store)
        self._bars = Progress(
            TextColumn("{task.description}", justify="left"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._live = Live(self._bars, console=console, refresh_per_second=4, transient=True)
        self._whole = self._bars.add_task("[bold]campaign", text="")
        self._lines: dict[str, TaskID] = {}
        self._told: set[str] | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.__exit__(kind, error, trace)

    def show(self, board: Board) -> None:
        """Bring the view up to date."""
        settled = board.done | board.failed | board.blocked
        self._tell(board, settled)
        left = self._clock.left(board)
        self._bars.update(
            self._whole,
            total=len(board.steps),
            completed=len(settled),
            text=f"{len(settled)}/{len(board.steps)} steps, {left}",
        )
        active = set(board.running) | board.foreign
        for identity in [key for key in self._lines if key not in active]:
            self._bars.remove_task(self._lines.pop(identity))
        for identity in active:
            self._line(board, identity)

    def _line(self, board: Board, identity: str) -> None:
        step = board.steps[identity]
        if identity not in self._lines:
            self._lines[identity] = self._bars.add_task(f"  {step.name}", total=None, text="starting")
        if told := read_progress(self._store.of(step).partial):
            text = f"{told.done:,}/{told.total:,} {told.unit}"
            self._bars.update(self._lines[identity], total=told.total, completed=told.done, text=text)

    def _tell(self, board: Board, settled: set[str]) -> None:
        """One line for each step that has ended since the last look."""
        if self._told is None:
            self._told = set(settled)
        for identity in settled - self._told:
            step = board.steps[identity]
            state = "done" if identity in board.done else "failed" if identity in board.failed else "blocked"
            colour = {"done": "green", "failed": "red", "blocked": "yellow"}[state]
            took = self._clock.took(board, identity) if state == "done" else ""
            self._console.print(f"[{colour}]{state:>7}[/] {step.name} [dim]{took}[/]", highlight=False)
        self._told |= settled


class Clock:
    """An estimate of the time left, from how long steps of each kind have taken on this store.

    A kind that has not been seen yet is taken to last as long as the mean of those that have; a running step's own
    progress says how much of it is left. Slots are taken to stay as busy as they are now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._measured: set[str] = set()

    def took(self, board: Board, identity: str) -> str:
        """How long a finished step's last attempt took."""
        attempts = self._store.of(board.steps[identity]).attempts()
        return f"{attempts[-1].seconds:.0f} s" if attempts and attempts[-1].end else ""

    def left(self, board: Board) -> str:
        """The time left, or that it is not known yet."""
        self._measure(board)
        if not self._seconds:
            return "time left not known yet"
        ranks = sum(board.steps[identity].ranks for identity in board.running)
        pending = sum(self._expected(board, identity) * board.steps[identity].ranks for identity in board.pending)
        running = sum(self._rest(board, identity) * board.steps[identity].ranks for identity in board.running)
        return f"about {_duration((pending + running) / max(ranks, 1))} left"

    def _measure(self, board: Board) -> None:
        for identity in board.running:
            self._started.setdefault(identity, time.monotonic())
        for identity in board.done - self._measured:
            step = board.steps[identity]
            attempts = self._store.of(step).attempts()
            if attempts and attempts[-1].end:
                self._seconds[step.kind].append(attempts[-1].seconds)
            self._measured.add(identity)

    def _expected(self, board: Board, identity: str) -> float:
        kind = board.steps[identity].kind
        return fmean(self._seconds.get(kind) or [second for kinds in self._seconds.values() for second in kinds])

    def _rest(self, board: Board, identity: str) -> float:
        ran = time.monotonic() - self._started[identity]
        told = read_progress(self._store.of(board.steps[identity]).partial)
        if told and told.done:
            return ran * (told.total - told.done) / told.done
        return max(self._expected(board, identity) - ran, 0.0)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
