"""``msm status --watch``: the same view again and again, on a terminal in its place, in a pipe below the last."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.files import write_json
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.store import Store
from tests.commands import Commands

STAMP = "2026-01-01T00:00:00.000+00:00"


def finish(store: Store, *steps: Step) -> None:
    for step in steps:
        store.of(step).out.mkdir(parents=True)
        write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": STAMP})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens between two looks, in turn; then somebody presses Ctrl-C."""
    events: list[Callable[[], None]] = []

    def sleep(seconds: float) -> None:
        assert seconds == 7
        if not events:
            raise KeyboardInterrupt
        events.pop(0)()

    monkeypatch.setattr("msm_hpc.cli.live.time.sleep", sleep)
    return events


def watch(store: Store) -> int:
    return main(["status", "--watch", "--every", "7", "campaign=demo", f"root={store.root}"])


def test_a_pipe_gets_a_view_each_tick_of_one_squeue_and_one_sacct(
    store: Store,
    graph: Callable[..., Graph],
    commands: Commands,
    slept: list[Callable[[], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = commands(squeue="echo '64|RUNNING|None'", sacct="", scontrol="")
    training = graph().find("pretrain/base/seed0")
    finish(store, *training.parents)
    store.of(training).write_lease(JobRef("slurm", "64"))
    store.of(graph().find("generate/chats")).write_lease(JobRef("slurm", "65"))
    slept.append(lambda: finish(store, training))
    assert watch(store) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    views = re.findall(r"^pretrain .*$", shown, re.MULTILINE)
    assert ["1 running" in view for view in views] == [True, False] and "1 done" in views[1]
    assert shown.count(", again in 7 s\n") == 2
    asked = [line.split()[0] for line in calls.read_text().splitlines()]
    assert (asked.count("squeue"), asked.count("sacct")) == (2, 2)


def test_it_ends_when_all_is_done(
    store: Store,
    graph: Callable[..., Graph],
    slept: list[Callable[[], None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    slept.append(lambda: finish(store, *graph().steps))
    slept.append(lambda: pytest.fail("nothing can change any more"))
    assert watch(store) == 0
    last = capsys.readouterr().out.split("in 7 s\n")[-1]
    assert "not started" not in last and re.search(r"\d\d:\d\d:\d\d\n", last)


def test_on_a_terminal_the_last_view_stays(
    store: Store,
    graph: Callable[..., Graph],
    slept: list[Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    screen = (tmp_path / "screen").open("w+")
    narrow = Console(file=screen, width=80, height=60, force_terminal=True, color_system=None)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("msm_hpc.cli.arguments.terminal", lambda: narrow)
    slept.append(lambda: finish(store, graph().find("generate/chats")))
    assert watch(store) == 0
    screen.seek(0)
    shown = screen.read()
    assert "\x1b[2K" in shown, "each view takes the place of the one before"
    last = shown.rpartition("stage ")[2]
    assert re.search(r"generate +\d+ .* 1 done", last)
    assert max(len(re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line)) for line in shown.splitlines()) <= 80


def test_a_tick_of_less_than_a_second_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch", "--every", "0"]) == 2
    assert "greater than or equal to 1" in capsys.readouterr().err
