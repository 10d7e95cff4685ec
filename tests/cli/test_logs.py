"""``msm logs``: whatever became of the job, what it said, or why nothing is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.files import write_json
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.launch.logs import RAISED
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.commands import Commands

STAMP = "2026-01-01T00:00:00.000+00:00"
STEP = "pretrain/base/seed0"
ATTEMPT = Attempt(JobRef("slurm", "64_3"), "n1", 1, None, "", STAMP, STAMP)
TRACEBACK = f"step 7\nsubmitit ERROR - {RAISED[0]}\nTraceback (most recent call last):\nboom\n"


@pytest.fixture
def step(graph: Callable[..., Graph]) -> Step:
    return graph().find(STEP)


@pytest.fixture
def logs(store: Store, capsys: pytest.CaptureFixture[str], commands: Commands) -> Callable[[], tuple[int, str]]:
    commands(squeue="echo '65_0|PENDING|Priority'", sacct="", scontrol="")

    def ask() -> tuple[int, str]:
        code = main(["logs", STEP, "campaign=demo", f"root={store.root}"])
        shown = capsys.readouterr()
        return code, shown.err if code else shown.out

    return ask


def attempt(store: Store, step: Step, number: int = 1, text: str = TRACEBACK, **fields: str | None) -> Path:
    log = store.root / f"log{number}"
    log.write_text(text)
    store.of(step).write_attempt(number, replace(ATTEMPT, log=str(log), **fields))  # type: ignore[arg-type]
    return log


def test_a_step_that_no_job_has_tried(logs: Callable[[], tuple[int, str]]) -> None:
    assert logs() == (2, f"msm: {STEP} has no log: no job has tried it yet\n")


def test_an_error_of_the_code_comes_with_its_traceback(
    store: Store, step: Step, logs: Callable[[], tuple[int, str]]
) -> None:
    log = attempt(store, step, cause="code", message="RuntimeError: boom")
    assert logs() == (0, f"{STEP} ended: code: RuntimeError: boom\nlog: {log}\n\n{TRACEBACK}")


def test_what_a_user_can_fix_comes_without(store: Store, step: Step, logs: Callable[[], tuple[int, str]]) -> None:
    log = attempt(store, step, cause="user", message="rows.jsonl:3: no field 'text'; add it")
    assert logs() == (0, f"{STEP} ended: user: rows.jsonl:3: no field 'text'; add it\nlog: {log}\n\nstep 7\n")


def test_a_job_that_died_before_our_code_ran_has_slurms_log(
    store: Store, step: Step, logs: Callable[[], tuple[int, str]]
) -> None:
    store.of(step).write_lease(JobRef("slurm", "64_3"))
    code, said = logs()
    assert code == 2 and "job 64_3 was cancelled" in said, "its inputs are not there either"
    for parent in step.parents:
        store.of(parent).out.mkdir(parents=True)
        write_json(store.of(parent).path / "done.json", {"files": {}, "attempt": 1, "at": STAMP})
    store.jobs.mkdir()
    code, said = logs()
    assert code == 2 and "job 64_3 was cancelled before it started; it has no log" in said
    (store.jobs / "64_3_0_log.err").write_text("SyntaxError: invalid syntax\n")
    code, said = logs()
    assert code == 0 and said.startswith(f"{STEP} ended: lost: job 64_3 ended before it could start\n")
    assert said.endswith("\n\nSyntaxError: invalid syntax\n")


def test_a_queued_job_says_so_above_the_log_of_the_try_before(
    store: Store, step: Step, logs: Callable[[], tuple[int, str]]
) -> None:
    store.of(step).write_lease(JobRef("slurm", "65_0"))
    code, said = logs()
    assert code == 2 and "is queued, as job 65_0 (Priority); there is no log" in said
    log = attempt(store, step, cause="code", message="RuntimeError: boom")
    assert logs() == (0, f"{STEP} is queued, as job 65_0 (Priority)\nlog: {log}\n\n{TRACEBACK}")


def test_a_running_job_shows_its_own_log(store: Store, step: Step, logs: Callable[[], tuple[int, str]]) -> None:
    job = local_job()
    store.of(step).write_lease(job)
    log = store.root / "running"
    log.write_text("step 7\n")
    store.of(step).write_attempt(1, Attempt(job, "here", 1, None, str(log), STAMP))
    assert logs() == (0, f"{STEP} is running, in job {job.id}\nlog: {log}\n\nstep 7\n")


def test_a_log_that_was_deleted(store: Store, step: Step, logs: Callable[[], tuple[int, str]]) -> None:
    log = attempt(store, step, cause="code", message="RuntimeError: boom")
    log.unlink()
    assert logs() == (2, f"msm: {STEP} ended: code: RuntimeError: boom; there is no log {log}\n")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens between two reads, in turn; then somebody presses Ctrl-C."""
    events: list[Callable[[], object]] = []

    def sleep(seconds: float) -> None:
        if not events:
            raise KeyboardInterrupt
        events.pop(0)()

    monkeypatch.setattr("msm_hpc.cli.views.logs.time.sleep", sleep)
    return events


def append(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def follow(store: Store) -> int:
    return main(["logs", "-f", STEP, "campaign=demo", f"root={store.root}"])


def test_a_log_is_followed_across_a_requeue_until_the_step_ends(
    store: Store, step: Step, commands: Commands, slept: list[Callable[[], object]], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = commands(squeue="echo '64_3|RUNNING|None'", sacct="", scontrol="")
    job = JobRef("slurm", "64_3")
    store.of(step).write_lease(job)
    log = attempt(store, step, text="step 1\nstep", end=None)
    again = log.with_name("log2")
    slept += [
        lambda: append(log, " 2\n"),
        lambda: attempt(store, step, text="step 1\nstep 2\nsaved\n", cause="preempted"),
        lambda: attempt(store, step, 2, "step 3\n", end=None),
        lambda: append(again, "step 4"),
        lambda: commands(squeue=""),
        lambda: store.of(step).write_attempt(2, replace(ATTEMPT, log=str(again), cause="code", message="boom")),
    ]
    assert follow(store) == 0
    assert capsys.readouterr().out == (
        f"{STEP} is running, in job 64_3\nlog: {log}\n\nstep 1\nstep 2\nsaved\nlog: {again}\n\nstep 3\nstep 4"
        f"{STEP} ended: code: boom\n"
    )
    asked = [line.split()[0] for line in calls.read_text().splitlines()]
    assert asked.count("squeue") == 4, "at the start, and when a try began or ended"


def test_a_queued_job_is_waited_for_and_ctrl_c_is_no_error(
    store: Store,
    step: Step,
    commands: Commands,
    slept: list[Callable[[], object]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands(squeue="echo '65_0|PENDING|Priority'", sacct="", scontrol="")
    monkeypatch.setattr("msm_hpc.cli.views.logs.SECONDS_BETWEEN_LOOKS", 0.0)
    store.of(step).write_lease(JobRef("slurm", "65_0"))
    attempt(store, step, cause="code", message="RuntimeError: boom")
    store.jobs.mkdir()
    slept.append(lambda: (store.jobs / "65_0_0_log.err").write_text("loading\n"))
    slept.append(lambda: commands(squeue="echo '65_0|RUNNING|None'"))
    assert follow(store) == 0
    shown = capsys.readouterr()
    started = f"{STEP} is running, in job 65_0\nlog: {store.jobs / '65_0_0_log.err'}\n\nloading\n"
    assert (shown.out, shown.err) == (f"{STEP} is queued, as job 65_0 (Priority)\n{started}", "")


def test_what_is_over_is_printed_as_without_following(
    store: Store, step: Step, commands: Commands, capsys: pytest.CaptureFixture[str]
) -> None:
    commands(squeue="", sacct="", scontrol="")
    log = attempt(store, step, cause="code", message="RuntimeError: boom")
    assert follow(store) == 0
    assert capsys.readouterr().out == f"{STEP} ended: code: RuntimeError: boom\nlog: {log}\n\n{TRACEBACK}"
