"""The live view of a local run: a bar for the whole, a line for each running step, and the time that is left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from msm_hpc.base.progress import read_progress
from msm_hpc.base.text import say
from msm_hpc.campaign.local_run import RunState
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.failures import alike, pattern
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.cli.clock import Clock
from msm_hpc.cli.views.failures import print_failure
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store

SECONDS_BETWEEN_LINES = 60
"""On a pipe, while nothing ends."""
COLOURS = {"done": "green", "failed": "red", "blocked": "yellow"}


class Display:
    """Call :meth:`show` with each look at the state.

    On a pipe it prints a line for each finished step instead, and one a minute with the progress of the others.
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
        self._reported: set[str] | None = None
        self._failures: set[tuple[str, str]] = set()
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
        self._report(state, settled)
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
            text = "running in another run" if holder else "starting"
            if holder is not None:
                lease = self._store.of(step).lease_file
                say(
                    self._console,
                    f"waiting for {step.name}, which is running in job {holder.id} {holder.host} of another run; "
                    f"if that is gone, delete {lease}",
                )
            self._lines[identity] = self._bars.add_task(f"  {step.name}", total=None, text=text)
        if progress := read_progress(self._store.of(step).partial):
            text = f"{progress.done:,}/{progress.total:,} {progress.unit}"
            self._bars.update(self._lines[identity], total=progress.total, completed=progress.done, text=text)

    def _report(self, state: RunState, settled: set[str]) -> None:
        """One line for each step that has ended since the last look."""
        if self._reported is None:
            self._reported = set(settled)
        for identity in sorted(settled - self._reported, key=lambda one: (one in state.blocked, one in state.failed)):
            step = state.steps[identity]
            end = "done" if identity in state.done else "failed" if identity in state.failed else "blocked"
            took = self._clock.took(state, identity) if end == "done" else ""
            self._console.print(Text.assemble((f"{end:>7}", COLOURS[end]), f" {step.name} ", (took, "dim")))
            if end == "failed":
                self._print_failure(step)
        self._reported |= settled

    def _print_failure(self, step: Step) -> None:
        """Why a step failed, unless another has failed in the same words."""
        end = ended(step, self._store, holders([step], self._store))
        if end is None or (end.cause, pattern(end)) in self._failures:
            return
        self._failures.add((end.cause, pattern(end)))
        print_failure(self._console, *alike([end]))
