"""What a user reads: the states of steps, failures with their log, the live view."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.base.files import write_json
from msm_hpc.base.progress import ProgressFile
from msm_hpc.campaign.local_run import RunState
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.ledger import Ledger, ledger, tries_at
from msm_hpc.campaign.views.status import nothing_here, statuses
from msm_hpc.campaign.views.why import why
from msm_hpc.cli.clock import Clock
from msm_hpc.cli.display import Display
from msm_hpc.cli.views.status import print_notes_on, status_table
from msm_hpc.config.stages import Cell, EvalConfig, ExportConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step, topological
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.records import Attempt, Cause, now
from msm_hpc.store.store import Store
from tests.commands import Commands

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


DEAD = JobRef("local", "1", socket.gethostname())
"""No process that was started with the epoch."""

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


def spent(store: Store, graph: Graph) -> Ledger:
    return ledger(tries_at(map(store.of, graph.steps)), on_gpus=False)


def printed(show: Callable[[Console], None]) -> str:
    console = Console(width=120, record=True, quiet=True)
    console.quiet = False
    with console.capture() as capture:
        show(console)
    return capture.get()


def test_each_state_is_read_from_the_files(store: Store) -> None:
    done, active, failed, lost, new = (source(name) for name in ("done", "running", "failed", "lost", "new"))
    blocked, behind = step("blocked", failed), step("behind", step("blocked", failed))
    finish(store, done)
    store.of(active).write_lease(local_job())
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="RuntimeError: no"))
    store.of(lost).write_attempt(1, replace(ATTEMPT, end=None, cause=None))
    os.utime(store.of(lost).attempt(1).path / "attempt.json", (0, 0))
    cancelled, dead = source("cancelled"), source("died before it started")
    store.of(cancelled).write_attempt(1, replace(ATTEMPT, end=ATTEMPT.start, cause="cancelled"))
    store.of(dead).write_lease(DEAD)
    graph = graph_of(done, active, failed, lost, new, blocked, behind, cancelled, dead)
    found = statuses(graph, store, holders(graph.steps, store))
    assert {status.step.label: status.state for status in found} == {
        "done": "done",
        "running": "running",
        "failed": "failed",
        "lost": "lost",
        "new": "not started",
        "blocked": "blocked",
        "behind": "blocked",
        "cancelled": "cancelled",
        "died before it started": "lost",
    }
    table = printed(status_table(graph, found, spent(store, graph)).print)
    assert "eval    7      2.000       1 done, 1 running, 1 not started, 1 cancelled, 1 failed, 2 lost\n" in table, (
        "done and failed: each 2 ranks for half an hour"
    )


@pytest.mark.parametrize(
    ("cause", "stopped_at", "state"),
    [
        ("cancelled", 278, "interrupted"),
        ("timeout", 278, "interrupted"),
        ("preempted", 278, "interrupted"),
        ("cancelled", None, "cancelled"),
        ("preempted", None, "cancelled"),
        ("timeout", None, "failed"),
        ("upstream", None, "not started"),
        ("rank lost", 278, "failed"),
        ("user", None, "failed"),
        ("done", None, "not started"),
    ],
)
def test_a_training_that_was_stopped_is_told_from_one_that_failed(
    store: Store, cause: Cause, stopped_at: int | None, state: str
) -> None:
    training = Step("train", "base/seed0", ExportConfig(), {}, recipe="aft")
    store.of(training).write_attempt(1, replace(ATTEMPT, cause=cause))
    if stopped_at is not None:
        store.of(training).partial.mkdir()
        ProgressFile(store.of(training).partial, 400, "optimizer steps").update(stopped_at)
    graph = Graph((training,))
    found = statuses(graph, store, holders(graph.steps, store))
    assert [status.state for status in found] == [state]
    shown = printed(lambda console: print_notes_on(console, found, store))
    said = "interrupted: aft/base/seed0 at 278 of 400 optimizer steps; `msm run` resumes\n"
    assert (said in shown) == (state == "interrupted")


def test_jobs_in_slurms_queue_are_told_apart_with_one_call(store: Store, commands: Commands) -> None:
    calls = commands(
        squeue="printf '64_0|RUNNING|None\n64_1|PENDING|Priority\n64_2|PENDING|Dependency\n64_3|PENDING|JobHeldUser\n'",
        sacct="printf '64_4|OUT_OF_MEMORY\n64_5|CANCELLED by 7\n64_6|RUNNING\n'",
        scontrol="",
    )
    names = ("running", "queued", "waiting", "held", "killed", "cancelled", "unrecorded")
    steps = [source(name) for name in names]
    for number, each in enumerate(steps):
        store.of(each).write_lease(JobRef("slurm", f"64_{number}"))
    store.jobs.mkdir()
    (store.jobs / "64_6_0_log.err").touch()  # it had started
    behind = step("behind", steps[3])
    store.of(behind).write_lease(JobRef("slurm", "65"))
    graph = graph_of(*steps, behind)
    found = statuses(graph, store, holders(graph.steps, store))
    assert {status.step.label: (status.state, status.reason) for status in found} == {
        "running": ("running", ""),
        "queued": ("pending", "Priority"),
        "waiting": ("waiting", "Dependency"),
        "held": ("pending", "JobHeldUser"),
        "killed": ("failed", ""),
        "cancelled": ("cancelled", ""),
        "unrecorded": ("lost", ""),
        "behind": ("cancelled", ""),
    }
    assert [line.split()[0] for line in calls.read_text().splitlines()].count("squeue") == 1
    assert [line.split()[0] for line in calls.read_text().splitlines()].count("sacct") == 1
    by_label = {status.step.label: status.end for status in found if status.end}
    assert str(by_label["killed"]) == "oom: job 64_4 ended before it could start (sacct: OUT_OF_MEMORY of job 64_4)"
    assert by_label["unrecorded"].message == "job 64_6 ended before it could start"
    assert by_label["unrecorded"].log == store.jobs / "64_6_0_log.err"
    assert by_label["behind"].message == "job 65 was cancelled, as what it waited for did not come"
    table = printed(status_table(graph, found, spent(store, graph)).print)
    assert "1 running, 1 pending (JobHeldUser), 1 pending (Priority), 1 waiting, 1 cancelled, 1 failed, 1 lost" in table
    notes = printed(lambda console: print_notes_on(console, found, store))
    assert "JobHeldUser: eval/held: their user holds them: `scontrol release 64_3`\n" in notes


@pytest.mark.parametrize(
    ("reason", "brief", "fix"),
    [
        (
            "launch failed requeued held",
            "held",
            "a node could not start them, so Slurm holds them: `scontrol release 64`",
        ),
        ("JobHeldAdmin", "JobHeldAdmin", "ask who administers the cluster for `scontrol release 64`"),
        ("PartitionConfig", "PartitionConfig", "`scancel 64`, and run again with another"),
        ("ReqNodeNotAvail, UnavailableNodes:n2", "ReqNodeNotAvail", "`sinfo -R` says why"),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "Nodes",
            "the nodes that they need are down, drained or reserved",
        ),
    ],
)
def test_what_keeps_a_job_from_starting_is_said_with_the_fix(
    store: Store, commands: Commands, reason: str, brief: str, fix: str
) -> None:
    commands(squeue=f"echo '64|PENDING|{reason}'", scontrol="")
    held = source("held")
    store.of(held).write_lease(JobRef("slurm", "64"))
    graph = graph_of(held)
    found = statuses(graph, store, holders(graph.steps, store))
    assert f"1 pending ({brief})\n" in printed(status_table(graph, found, spent(store, graph)).print)
    notes = printed(lambda console: print_notes_on(console, found, store)).replace("\n", " ")
    assert notes.startswith(f"{reason}: eval/held: ") and fix in notes


def test_a_root_where_nothing_was_run_is_reported_with_what_was(store: Store) -> None:
    mine, other = graph_of(source("mine")), source("other")
    assert str(nothing_here(mine, store)).endswith("; no campaign was, so that root= may be the wrong folder")
    write_json(store.root / "rehearsal" / "campaigns" / "demo.json", {})
    there = f". Rehearsed here, and to be asked about with root={store.root / 'rehearsal'}: demo"
    assert str(nothing_here(mine, store)).endswith(f"; no campaign was, so that root= may be the wrong folder{there}")
    store.register((other,))
    write_json(store.root / "campaigns" / "other.json", {})
    assert ": other. Rehearsed here" in str(nothing_here(mine, store))
    assert nothing_here(graph_of(other), store) is None


def test_a_full_disk_is_found_in_the_log_where_the_end_could_not_be_recorded(store: Store, tmp_path: Path) -> None:
    full = source("full")
    log = tmp_path / "log"
    log.write_text("step 7\nthe end of this attempt could not be written: [Errno 28] No space left on device\n")
    store.of(full).write_attempt(1, replace(ATTEMPT, end=None, cause=None, log=str(log)))
    end = ended(full, store, holders([full], store))
    assert end is not None and end.cause == "lost"
    assert end.message.startswith("the disk was full, so that its end could not be recorded: the end of this attempt")


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
        "eval/bad (" + bad.id + "): failed (code)",
        "RuntimeError: no",
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
    assert clock.left(state) == "at least 60 minutes left"  # no export step was ever measured
    state.pending.pop(other.identity)
    assert clock.left(state) == "at least 30 minutes left"


def test_where_squeue_is_missing_what_a_job_holds_is_unknown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    held, other = source("held"), source("other")
    store.of(held).write_lease(JobRef("slurm", "64_3"))
    graph = graph_of(held, other)
    found = statuses(graph, store, holders(graph.steps, store))
    assert [status.state for status in found] == ["unknown", "not started"]
    assert "squeue is not on the PATH" in found[0].reason
    assert why(held, graph, store) == [f"it is held by job 64_3: {found[0].reason}"]
    notes = printed(lambda console: print_notes_on(console, found, store))
    assert f"delete {store.of(held).lease_file}" in notes


def test_a_process_of_another_host_is_named_with_what_to_delete(store: Store) -> None:
    held = source("held")
    store.of(held).write_lease(JobRef("local", "77", "not-this-host"))
    graph = graph_of(held)
    found = statuses(graph, store, holders(graph.steps, store))
    notes = printed(lambda console: print_notes_on(console, found, store))
    assert "unknown: eval/held: job 77 on not-this-host holds the first: a process of another host" in notes
    assert f"delete {store.of(held).lease_file}" in notes
