"""What a user reads: the states of steps, failures with their log, the live view."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from msm_hpc.base.files import write_json
from msm_hpc.campaign.local_run import RunState
from msm_hpc.campaign.views.status import nothing_here, statuses
from msm_hpc.cli.display import Clock, Display
from msm_hpc.cli.show import print_failures, status_table
from msm_hpc.config.stages import ExportConfig, ReportConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.jobs import JobRef, local_job
from msm_hpc.store.store import Attempt, Store

ATTEMPT = Attempt(
    job=JobRef("local", "1", "here", 0.0),
    host="here",
    ranks=2,
    commit=None,
    log="",
    start="2026-01-01T00:00:00.000+00:00",
    end="2026-01-01T00:30:00.000+00:00",
    cause="done",
)


def step(label: str, *parents: Step) -> Step:
    return Step("export", label, ExportConfig(), {f"input{i}": parent for i, parent in enumerate(parents)})


def source(label: str) -> Step:
    return Step("eval", label, label, {})


def finish(store: Store, done: Step, attempt: Attempt = ATTEMPT) -> None:
    store.of(done).write_attempt(1, attempt)
    store.of(done).out.mkdir()
    write_json(store.of(done).path / "done.json", {})


def printed(show: Callable[[Console], None]) -> str:
    console = Console(width=120, record=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        show(console)
    return capture.get()


def test_each_state_is_told_from_the_files(store: Store) -> None:
    done, active, failed, lost, waiting = (source(name) for name in ("done", "active", "failed", "lost", "waiting"))
    blocked, behind = step("blocked", failed), step("behind", step("blocked", failed))
    finish(store, done)
    store.of(active).write_lease(local_job())
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: no"))
    store.of(lost).write_attempt(1, replace(ATTEMPT, end=None, cause=None))
    cancelled = source("cancelled")
    store.of(cancelled).write_attempt(1, replace(ATTEMPT, end=ATTEMPT.start, cause="cancelled"))
    found = statuses(Graph((done, active, failed, lost, waiting, blocked, behind, cancelled)), store)
    assert {status.step.label: status.state for status in found} == {
        "done": "done",
        "active": "active",
        "failed": "failed",
        "lost": "lost",
        "waiting": "waiting",
        "blocked": "blocked",
        "behind": "blocked",
        "cancelled": "waiting",
    }
    table = printed(lambda console: console.print(status_table(found)))
    assert "eval" in table
    assert "2.000" in table  # done and failed: each 2 ranks for half an hour


def test_a_root_where_nothing_was_run_is_told_with_what_was(store: Store) -> None:
    mine, other = Graph((source("mine"),)), Step("report", "other", ReportConfig(title="", cells=()), {})
    assert "no campaign was: is root= the right folder?" in str(nothing_here(mine, store))
    store.register((other,))
    assert str(nothing_here(mine, store)).endswith(": other")
    assert nothing_here(Graph((other,)), store) is None


def test_a_failure_shows_cause_message_and_log(store: Store, tmp_path: Path) -> None:
    failed, vanished, never = source("failed [b]"), source("vanished"), source("never")
    log = tmp_path / "log"
    log.write_text("first\n" * 50 + "last words\n")
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: [no]", log="/x/log"))
    store.of(vanished).write_attempt(1, replace(ATTEMPT, end=None, cause=None, log=str(log)))
    text = printed(lambda console: print_failures(console, [failed, vanished, never], store))
    assert "eval/failed [b]" in text
    assert "code\n  RuntimeError: [no]\n  log: /x/log" in text
    assert "vanished without a word" in text
    assert "| last words" in text
    assert text.count("| first") < 20
    assert "eval/never ended before it could start" in text


def test_a_full_disk_is_told_once_below_the_failures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [source("one"), source("other")]
    for failed in steps:
        store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="OSError: no room", log="/x/log"))
    assert "bytes free" not in printed(lambda console: print_failures(console, steps, store))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    assert printed(lambda console: print_failures(console, [], store)) == ""
    last = printed(lambda console: print_failures(console, steps, store)).splitlines()
    assert [number for number, line in enumerate(last) if "4,096 bytes free" in line] == [len(last) - 1]


def test_the_view_tells_each_end_once(store: Store) -> None:
    good, bad, behind = source("good"), source("bad"), step("behind", source("bad"))
    state = RunState(steps={one.identity: one for one in (good, bad, behind)})
    state.pending = {behind.identity: behind}

    def watch(console: Console) -> None:
        display = Display(store, console)
        display.show(state)
        finish(store, good)
        store.of(bad).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: no"))
        state.done.add(good.identity)
        state.failed.add(bad.identity)
        display.show(state)
        state.pending.clear()
        state.blocked.add(behind.identity)
        display.show(state)
        display.show(state)

    lines = [line.strip() for line in printed(watch).splitlines()]
    assert lines == [
        "done eval/good 1800 s",
        "failed eval/bad",
        "eval/bad (" + bad.id + "): code",
        "RuntimeError: no",
        "log:",
        "blocked export/behind",
    ]


def test_the_time_left_comes_from_what_was_measured(store: Store) -> None:
    done, next_, other = source("done"), source("next"), step("other")
    state = RunState(steps={one.identity: one for one in (done, next_, other)})
    state.pending = {next_.identity: next_, other.identity: other}
    clock = Clock(store)
    assert clock.left(state) == "time left not known yet"
    finish(store, done)
    state.done.add(done.identity)
    assert clock.left(state) == "more than 60 min left"  # no export step was ever measured
    state.pending.pop(other.identity)
    assert clock.left(state) == "about 30 min left"
