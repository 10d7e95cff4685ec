"""The live view of a local run: a bar for the whole, a line for each running step, and the time that is left."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from msm_hpc.base.progress import read_progress
from msm_hpc.base.text import few, say
from msm_hpc.campaign.local_run import SECONDS_UNTIL_VOID, RunState
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.failures import alike, pattern
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.cli.clock import Clock
from msm_hpc.cli.views.failures import print_failure
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, is_elsewhere
from msm_hpc.store.store import Store

SECONDS_BETWEEN_LINES = 60
"""On a pipe, while nothing ends."""
ROOM_FOR_A_BAR = 70
"""Columns; in a narrower terminal the words need the room."""
COLOURS = {"done": "green", "failed": "red", "blocked": "yellow"}


class Display:
    """Call :meth:`show` with each look at the state.

    On a pipe it prints a line for each finished step instead, and one a minute with the progress of the others.
    """

    def __init__(self, store: Store, console: Console) -> None:
        self._store = store
        self._console = console
        self._clock = Clock(store)
        bar = [BarColumn(bar_width=20)] if console.width >= ROOM_FOR_A_BAR else []
        texts = (
            TextColumn(text, table_column=Column(overflow="fold"))
            for text in ("{task.description}", "{task.fields[text]}")
        )
        self._bars = Progress(next(texts), *bar, *texts, console=console)
        self._live = Live(self._bars, console=console, refresh_per_second=4, transient=True)
        self._whole = self._bars.add_task("[bold]campaign", text="")
        self._lines: dict[str, TaskID] = {}
        self._reported: set[str] | None = None
        self._failures: set[tuple[str, str]] = set()
        self._healed: set[str] = set()
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
                    f"if that is gone, delete {lease}{_or_wait(holder)}",
                )
            self._lines[identity] = self._bars.add_task(f"  {step.name}", total=None, text=text)
        if progress := read_progress(self._store.of(step).partial):
            text = f"{progress.done:,}/{progress.total:,} {progress.unit}"
            self._bars.update(self._lines[identity], total=progress.total, completed=progress.done, text=text)

    def _report_healed(self, state: RunState) -> None:
        """Say which results were found damaged since the last look; their end is reported again."""
        for identity in state.healed - self._healed:
            step = state.steps[identity]
            why = self._store.of(step).damage() or "it is gone"
            say(self._console, f"{step.name} is made again, since a step that reads it could not: {why}")
        self._reported = (self._reported or set()) - (state.healed - self._healed)
        self._healed |= state.healed

    def _report(self, state: RunState, settled: set[str]) -> None:
        """One line for each step that has ended since the last look, and for all that these block."""
        if self._reported is None:
            self._reported = set(settled)
        self._report_healed(state)
        new = [identity for identity in state.steps if identity in settled - self._reported]
        for identity in (one for one in new if one in state.done):
            self._print_end("done", state.steps[identity].name, self._clock.took(state, identity))
        for identity in (one for one in new if one in state.failed):
            self._print_end("failed", state.steps[identity].name)
            self._print_failure(state.steps[identity])
        if blocked := [state.steps[one].name for one in new if one in state.blocked]:
            self._print_end("blocked", f"{len(blocked):,} steps: {few(blocked)}" if len(blocked) > 1 else blocked[0])
        self._reported |= settled

    def _print_end(self, end: str, name: str, took: str = "") -> None:
        line = Text.assemble((f"{end:>7}", COLOURS[end]), f" {name} ", (took, "dim"))
        self._console.print(line, soft_wrap=True)

    def _print_failure(self, step: Step) -> None:
        """Why a step failed, unless another has failed in the same words."""
        end = ended(step, self._store, holders([step], self._store))
        if end is None or (end.cause, pattern(end)) in self._failures:
            return
        self._failures.add((end.cause, pattern(end)))
        print_failure(self._console, *alike([end]))


def _or_wait(holder: JobRef) -> str:
    if holder.launcher != "local" or not is_elsewhere(holder):
        return ""
    return f", or wait: it is taken over after {SECONDS_UNTIL_VOID:.0f} s without a sign of life"
