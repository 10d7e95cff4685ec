"""Stages that a signal stopped or that lost a rank: the attempt's cause, and what happens to the job."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM, SIGUSR2, Signals
from typing import Any

import pytest

from msm_hpc.base.abort import EXIT_STATUS, abort
from msm_hpc.base.errors import RankLostError, StoppedBySignalError
from msm_hpc.campaign import runner
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import RUN, JobRef
from msm_hpc.launch.ranks import Ranks
from msm_hpc.launch.several import MADE, SEVERAL, STOPPED, mark, marked, name_of
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

REQUEUED = "PreemptTime=None JobState=COMPLETING Restarts=1"
STEP = Step("export", "x", ExportConfig(), {})
PREEMPTED, LIMIT, RUNNING = "PreemptTime=2026-01-01T10:00:00", "PreemptTime=None Reason=TimeLimit", "PreemptTime=None"


@pytest.fixture
def run(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], StepFolder]:
    """Runs a step with the given stage; returns the step's folder."""

    def make(stage: Callable[[], None], carry_over: str | None = "of this test") -> StepFolder:
        monkeypatch.setitem(
            kinds.KINDS,
            "export",
            kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, "", carry_over=carry_over),
        )
        monkeypatch.setattr(kinds.Kind, "load", lambda kind: lambda *arguments: stage())
        monkeypatch.setattr(kinds.Kind, "load_carry_over", lambda kind: lambda earlier, out: None)
        store.register((STEP,))
        run_step(str(store.root), STEP.id)
        return store.of(STEP)

    return make


def raising(error: Exception) -> Callable[[], None]:
    def stage() -> None:
        raise error

    return stage


def as_slurm_job(monkeypatch: pytest.MonkeyPatch, folder: Path, shown: str) -> Path:
    """Make this process job 64 of a Slurm whose scontrol shows ``shown``; returns where its requeues are listed."""
    requeued = folder / "requeued"
    script = folder / "scontrol"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = requeue ] && echo "$2" >> {requeued} || echo "JobId=64 {shown} EndTime=x"\n'
    )
    script.chmod(0o755)
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "64", "SUBMITIT_FOLDER": str(folder)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return requeued


@pytest.mark.parametrize(("signal", "cause"), [(SIGUSR2, "timeout"), (SIGTERM, "cancelled")])
def test_a_signal_on_this_machine(run: Any, store: Store, signal: Signals, cause: str) -> None:
    with pytest.raises(StoppedBySignalError):
        run(raising(StoppedBySignalError("4 of 9 steps are saved", signal, progressed=True)))
    (attempt,) = store.of(STEP).attempts()
    assert (attempt.cause, attempt.message) == (cause, "4 of 9 steps are saved")
    assert store.of(STEP).lease() is None


@pytest.mark.parametrize(
    ("signal", "shown", "progressed", "cause", "requeues"),
    [
        (SIGTERM, PREEMPTED, False, "preempted", True),
        (SIGUSR2, PREEMPTED, True, "preempted", True),
        (SIGUSR2, RUNNING, True, "timeout", True),
        (SIGUSR2, RUNNING, False, "timeout", True),
        (SIGTERM, LIMIT, True, "timeout", True),
        (SIGTERM, REQUEUED, False, "preempted", True),
        (SIGTERM, RUNNING, True, "cancelled", False),
    ],
)
def test_slurm_is_asked_for_the_cause_and_the_job_requeued_where_that_helps(
    run: Any,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signal: Signals,
    shown: str,
    progressed: bool,
    cause: str,
    requeues: bool,
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, shown)
    with pytest.raises(StoppedBySignalError):
        run(raising(StoppedBySignalError("saved", signal, progressed)))
    assert [attempt.cause for attempt in store.of(STEP).attempts()] == [cause]
    lease = store.of(STEP).lease()
    assert (lease and lease.id) == ("64" if requeues else None), "the same job will run the step"
    assert (requeued.read_text() if requeued.exists() else "") == ("64\n" if requeues else "")


def test_a_time_limit_that_came_twice_before_anything_was_saved_is_explained(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, RUNNING)
    for progressed in (True, False, False):
        with pytest.raises(StoppedBySignalError):
            run(raising(StoppedBySignalError("saved", SIGUSR2, progressed)))
    assert requeued.read_text() == "64\n64\n"
    *_, last = store.of(STEP).attempts()
    assert str(last.message).startswith("saved; it ended by timeout 2 times in a row with nothing more saved, so")
    assert store.of(STEP).lease() is None


def test_a_time_limit_is_not_tried_again_where_nothing_can_be_saved(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, RUNNING)
    with pytest.raises(StoppedBySignalError):
        run(raising(StoppedBySignalError("stopped", SIGUSR2, progressed=False)), carry_over=None)
    assert not requeued.exists()
    assert store.of(STEP).lease() is None


def test_a_signal_before_the_stage_begins_requeues_the_job(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, RUNNING)
    find = runner.find_inputs

    def slowly(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), SIGUSR2)
        return find(*arguments, **options)

    monkeypatch.setattr(runner, "find_inputs", slowly)
    with pytest.raises(StoppedBySignalError, match="SIGUSR2 asked the run to stop before it began"):
        run(raising(AssertionError("it is not called")))
    assert requeued.read_text() == "64\n"
    assert [attempt.cause for attempt in store.of(STEP).attempts()] == ["timeout"]


def test_a_signal_while_an_attempt_is_taken_is_recorded_where_nothing_can_be_saved(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, PREEMPTED)
    write = StepFolder.write_lease

    def slowly(folder: StepFolder, job: JobRef) -> None:
        write(folder, job)
        os.kill(os.getpid(), SIGTERM)

    monkeypatch.setattr(StepFolder, "write_lease", slowly)
    with pytest.raises(StoppedBySignalError, match="SIGTERM asked the run to stop before it began"):
        run(raising(AssertionError("it is not called")), carry_over=None)
    assert requeued.read_text() == "64\n"
    assert [attempt.cause for attempt in store.of(STEP).attempts()] == ["preempted"]


def test_an_abort_ends_the_attempt_of_a_main_thread_that_is_stuck(run: Any, store: Store) -> None:
    def stuck() -> None:
        threading.Thread(target=abort, args=(RankLostError("rank 3 is gone", 3),)).start()
        threading.Event().wait()

    process = multiprocessing.get_context("fork").Process(target=run, args=(stuck,))
    process.start()
    process.join(60)
    assert process.exitcode == EXIT_STATUS
    (attempt,) = store.of(STEP).attempts()
    assert (attempt.cause, attempt.message) == ("rank lost", "rank 3 is gone")
    assert store.of(STEP).lease() is None


def test_a_step_that_others_of_its_job_left_too_little_time_is_tried_again(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requeued = as_slurm_job(monkeypatch, tmp_path, RUNNING)
    for name, value in {SEVERAL: "1", RUN: "this start"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner, "begin_log", lambda step: None)  # it would take pytest's own output
    mark(MADE)
    with pytest.raises(StoppedBySignalError):
        run(raising(StoppedBySignalError("stopped", SIGUSR2, progressed=False)), carry_over=None)
    assert requeued.read_text() == "64\n"
    assert marked(STOPPED), "the job begins no other step"


@pytest.mark.parametrize(("lost", "cause"), [(0, "rank lost"), (2, None)])
def test_another_rank_ends_the_attempt_only_where_rank_0_was_lost(
    run: Any, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, cause: str | None
) -> None:
    local = {"JOB_ID": "7", "NTASKS": "3", "GLOBALID": "1"}
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "local")
    monkeypatch.setenv("SUBMITIT_FOLDER", str(tmp_path))
    monkeypatch.setenv(RUN, "this one")
    Ranks(0, 3, 0, "127.0.0.1", "this one.0", tmp_path).environment(name_of(STEP.id))
    for name, value in local.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # run_step sets them; put back afterwards
    start = "2026-01-01T00:00:00+00:00"
    store.of(STEP).write_attempt(1, Attempt(JobRef("local", "7"), "host", 3, None, "", start, job_start="this one"))
    store.of(STEP).attempt(1).begin()
    with pytest.raises(RankLostError):
        run(raising(RankLostError(f"rank {lost} is gone", lost)))
    assert [attempt.cause for attempt in store.of(STEP).attempts()] == [cause]
