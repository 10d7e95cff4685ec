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
from rich.text import Text

from msm_hpc.base.progress import read_progress
from msm_hpc.campaign.local_run import RunState
from msm_hpc.cli.show import print_failures
from msm_hpc.store.store import Store

SECONDS_BETWEEN_LINES = 60
"""On a pipe, while nothing ends."""
COLOURS = {"done": "green", "failed": "red", "blocked": "yellow"}


class Display:
    """Call :meth:`show` with each look at the state.

    On a pipe it prints a line for each finished step instead, and one a minute that tells how far the others are.
    """

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
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.__exit__(kind, error, trace)

    def show(self, state: RunState) -> None:
        """Bring the view up to date."""
        settled = state.done | state.failed | state.blocked
        self._tell(state, settled)
        left = self._clock.left(state)
        self._bars.update(
            self._whole,
            total=len(state.steps),
            completed=len(settled),
            text=f"{len(settled)}/{len(state.steps)} steps, {left}",
        )
        active = {*state.running, *state.foreign}
        for identity in [key for key in self._lines if key not in active]:
            self._bars.remove_task(self._lines.pop(identity))
        for identity in active:
            self._line(state, identity)
        if not self._console.is_terminal and time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            lines = [f"{task.description.strip()} {task.fields['text']}" for task in self._bars.tasks[1:]]
            text = f"{len(settled)}/{len(state.steps)} steps, {left}; {', '.join(lines)}"
            self._console.print(Text(f"        {text}", style="dim"), soft_wrap=True)

    def _line(self, state: RunState, identity: str) -> None:
        step = state.steps[identity]
        if identity not in self._lines:
            holder = state.foreign.get(identity)
            text = "made by another run" if holder else "starting"
            if holder is not None:
                lease = self._store.of(step).lease_file
                self._console.print(
                    f"waiting for {step.name}, which job {holder.id} {holder.host} of another run makes; "
                    f"if that is gone, delete {lease}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            self._lines[identity] = self._bars.add_task(f"  {step.name}", total=None, text=text)
        if told := read_progress(self._store.of(step).partial):
            text = f"{told.done:,}/{told.total:,} {told.unit}"
            self._bars.update(self._lines[identity], total=told.total, completed=told.done, text=text)

    def _tell(self, state: RunState, settled: set[str]) -> None:
        """One line for each step that has ended since the last look."""
        if self._told is None:
            self._told = set(settled)
        for identity in sorted(settled - self._told, key=lambda one: (one in state.blocked, one in state.failed)):
            step = state.steps[identity]
            end = "done" if identity in state.done else "failed" if identity in state.failed else "blocked"
            took = self._clock.took(state, identity) if end == "done" else ""
            self._console.print(Text.assemble((f"{end:>7}", COLOURS[end]), f" {step.name} ", (took, "dim")))
            if end == "failed":
                print_failures(self._console, [step], self._store)
        self._told |= settled


class Clock:
    """An estimate of the time left, from how long steps of each kind have taken on this store.

    A running step's own progress says how much of it is left. As long as there are steps of a kind that has not been
    seen yet, the estimate is a lower bound and says so. Slots are taken to stay as busy as they are now.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._measured: set[str] = set()

    def took(self, state: RunState, identity: str) -> str:
        """How long a finished step's last attempt took."""
        attempts = self._store.of(state.steps[identity]).attempts()
        return f"{attempts[-1].seconds:.0f} s" if attempts and attempts[-1].end else ""

    def left(self, state: RunState) -> str:
        """The time left, or that it is not known yet."""
        self._measure(state)
        if not self._seconds:
            return "time left not known yet"
        ranks = sum(state.steps[identity].ranks for identity in state.running)
        pending = sum(self._expected(state, identity) * state.steps[identity].ranks for identity in state.pending)
        running = sum(self._rest(state, identity) * state.steps[identity].ranks for identity in state.running)
        kinds = {state.steps[identity].kind for identity in state.pending}
        about = "about" if kinds <= self._seconds.keys() else "more than"
        return f"{about} {_duration((pending + running) / max(ranks, 1))} left"

    def _measure(self, state: RunState) -> None:
        for identity in state.running:
            self._started.setdefault(identity, time.monotonic())
        for identity in state.done - self._measured:
            step = state.steps[identity]
            attempts = self._store.of(step).attempts()
            if attempts and attempts[-1].end:
                self._seconds[step.kind].append(attempts[-1].seconds)
            self._measured.add(identity)

    def _expected(self, state: RunState, identity: str) -> float:
        kind = state.steps[identity].kind
        return fmean(self._seconds.get(kind) or [second for kinds in self._seconds.values() for second in kinds])

    def _rest(self, state: RunState, identity: str) -> float:
        ran = time.monotonic() - self._started[identity]
        told = read_progress(self._store.of(state.steps[identity]).partial)
        if told and told.done:
            return ran * (told.total - told.done) / told.done
        return max(self._expected(state, identity) - ran, 0.0)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
