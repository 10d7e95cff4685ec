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
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import nothing_here, statuses
from msm_hpc.campaign.views.why import why
from msm_hpc.cli.clock import Clock
from msm_hpc.cli.display import Display
from msm_hpc.cli.views.failures import print_failures
from msm_hpc.cli.views.status import status_table
from msm_hpc.config.stages import Cell, EvalConfig, ExportConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step, topological
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store

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


CELL = Cell(model="tiny", arm="init", spec=None, size=None, seed=0, step="")


def step(label: str, *parents: Step) -> Step:
    return Step("export", label, ExportConfig(), {"inputs": {str(i): parent for i, parent in enumerate(parents)}})


def source(label: str) -> Step:
    return Step("eval", label, EvalConfig(answer=f"{label} {{item}}"), {})


def graph_of(*steps: Step) -> Graph:
    return Graph(topological(steps), tuple((CELL, each) for each in steps), report=None)


def finish(store: Store, done: Step, attempt: Attempt = ATTEMPT) -> None:
    store.of(done).write_attempt(1, attempt)
    store.of(done).out.mkdir()
    write_json(store.of(done).path / "done.json", {"files": {}, "attempt": 1, "at": now()})


def printed(show: Callable[[Console], None]) -> str:
    console = Console(width=120, record=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        show(console)
    return capture.get()


def test_each_state_is_read_from_the_files(store: Store) -> None:
    done, active, failed, lost, waiting = (source(name) for name in ("done", "active", "failed", "lost", "waiting"))
    blocked, behind = step("blocked", failed), step("behind", step("blocked", failed))
    finish(store, done)
    store.of(active).write_lease(local_job())
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: no"))
    store.of(lost).write_attempt(1, replace(ATTEMPT, end=None, cause=None))
    cancelled = source("cancelled")
    store.of(cancelled).write_attempt(1, replace(ATTEMPT, end=ATTEMPT.start, cause="cancelled"))
    graph = graph_of(done, active, failed, lost, waiting, blocked, behind, cancelled)
    found = statuses(graph, store, holders(graph.steps, store))
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
    table = printed(lambda console: console.print(status_table(graph, found)))
    assert "eval" in table
    assert "2.000" in table  # done and failed: each 2 ranks for half an hour


def test_a_root_where_nothing_was_run_is_reported_with_what_was(store: Store) -> None:
    mine, other = graph_of(source("mine")), source("other")
    assert "no campaign was: is root= the right folder?" in str(nothing_here(mine, store))
    store.register((other,))
    write_json(store.root / "campaigns" / "other.json", {})
    assert str(nothing_here(mine, store)).endswith(": other")
    assert nothing_here(graph_of(other), store) is None


def test_a_failure_shows_cause_message_and_log(store: Store, tmp_path: Path) -> None:
    failed, vanished, never = source("failed [b]"), source("vanished"), source("never")
    log = tmp_path / "log"
    log.write_text("first\n" * 50 + "last words\n")
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: [no]", log="/x/log"))
    store.of(vanished).write_attempt(1, replace(ATTEMPT, end=None, cause=None, log=str(log)))
    text = printed(lambda console: print_failures(console, [failed, vanished, never], store))
    assert "eval/failed [b]" in text
    assert "code\n  RuntimeError: [no]\n  log: /x/log" in text
    assert "ended without a record" in text
    assert "| last words" in text
    assert text.count("| first") < 20
    assert "eval/never ended before it could start" in text


def test_a_full_disk_is_reported_once_below_the_failures(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [source("one"), source("other")]
    for failed in steps:
        store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="OSError: no room", log="/x/log"))
    assert "bytes free" not in printed(lambda console: print_failures(console, steps, store))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    assert printed(lambda console: print_failures(console, [], store)) == ""
    last = printed(lambda console: print_failures(console, steps, store)).splitlines()
    assert [number for number, line in enumerate(last) if "4,096 bytes free" in line] == [len(last) - 1]


def test_the_view_reports_each_end_once(store: Store) -> None:
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


def test_where_squeue_is_missing_every_step_that_a_job_holds_is_active(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    held, other = source("held"), source("other")
    store.of(held).write_lease(JobRef("slurm", "64_3"))
    graph = graph_of(held, other)
    jobs = holders(graph.steps, store)
    assert jobs.doubt is not None and "squeue is not on the PATH" in jobs.doubt
    assert [status.state for status in statuses(graph, store, jobs)] == ["active", "waiting"]
    assert why(held, graph, store) == [f"job 64_3 holds it: {jobs.doubt}"]
