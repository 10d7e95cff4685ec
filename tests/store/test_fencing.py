"""Attempts that were killed at any instant, that live on when they were given up for dead, and that run at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.stopping import StopRequest
from msm_hpc.campaign.holding import follow
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.job import RUN, JobRef
from msm_hpc.store.folder import LeaseHeldError, StepFolder
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.commands import Commands
from tests.store.conftest import Make, step, write

FORK = multiprocessing.get_context("fork")
CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")


def kill_at(call: int) -> None:
    """Kill this process at its file system call of that number, counted from 0."""
    count = iter(range(10_000))

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:
            if next(count) == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return function

    for name in CALLS:
        setattr(os, name, dying(getattr(os, name)))


def test_a_kill_at_any_file_system_call_costs_nothing_but_time(store: Store, make: Make) -> None:
    """Each time the first attempt is killed one call later, until it is not, and the second one ends the step."""

    def killed(call: int) -> int | None:
        def first() -> None:
            kill_at(call)
            make(step(), write)

        process = FORK.Process(target=first)
        process.start()
        process.join(60)
        return process.exitcode

    folder, calls = store.of(step()), 0
    while killed(calls) == -signal.SIGKILL:
        result = make(step(), write)
        assert result.done and result.verify("the test") is None
        assert {file.name: file.read_text() for file in result.out.iterdir()} == {
            "saved": "first half",
            "result": "first half, second half",
        }
        shutil.rmtree(folder.path)
        calls += 1
    assert folder.done
    assert calls > 20, "the calls of taking, preparing, sealing and publishing"


def as_slurm_job(monkeypatch: pytest.MonkeyPatch, folder: Path, restart: int, rank: int = 0) -> None:
    """Make this process a rank of Slurm job 64, after so many requeues."""
    given = {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": folder, "SLURM_JOB_ID": 64, "SLURM_PROCID": rank}
    for name, value in (given | {RUN: f"64 restart {restart}"}).items():
        monkeypatch.setenv(name, str(value))


def test_a_lost_node_s_process_lives_on_beside_the_requeued_one(
    store: Store, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under one Slurm id: the old one appends all the time, and tries to publish when the new one has."""
    going, over = tmp_path / "going", tmp_path / "over"

    def live_on(config: object, inputs: object, out: Path) -> None:
        (out / "saved").write_text("first half")
        with (out / "log").open("a") as log:
            while not over.exists():
                print("still here", file=log, flush=True)
                going.touch()
                time.sleep(0.005)
        (out / "result").write_text("of the old process")

    def old() -> None:
        as_slurm_job(monkeypatch, tmp_path, restart=0)
        with pytest.raises(LeaseHeldError, match="attempt 2 took over, in slurm job 64"):
            make(step(), live_on)

    process = FORK.Process(target=old)
    process.start()
    while not going.exists():
        time.sleep(0.01)
    as_slurm_job(monkeypatch, tmp_path, restart=1)
    folder = make(step(), lambda config, inputs, out: ((out / "log").unlink(), write(config, inputs, out)))
    published = {file: file.read_bytes() for file in folder.out.iterdir()}
    assert json.loads((folder.path / "done.json").read_text())["attempt"] == 2
    over.touch()
    process.join(60)
    assert process.exitcode == 0
    assert {file: file.read_bytes() for file in folder.out.iterdir()} == published
    assert folder.done and folder.verify("the test") is None
    assert folder.attempts()[1].cause == "done"


def test_where_the_old_one_had_checked_its_number_just_before_it_lost_it_one_result_stays(
    store: Store, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.of(step())

    def lose_it_and_publish(config: Any, inputs: Any, out: Path) -> None:
        write(config, inputs, out)
        with monkeypatch.context() as patched:
            patched.setattr(StepFolder, "check_holds", lambda self, own: None)
            assert folder.attempt(2).take(Attempt(JobRef("local", "4242"), "n2", 1, None, "", now()))
            folder.publish(folder.attempt(1))

    with pytest.raises(LeaseHeldError):
        make(step(), lose_it_and_publish)
    published = (folder.path / "done.json").read_bytes()
    folder.attempt(2).begin()
    (folder.attempt(2).out / "result").write_text("as good")
    folder.publish(folder.attempt(2))
    assert (folder.path / "done.json").read_bytes() == published
    assert folder.done and folder.verify("the test") is None
    assert not any(attempt.out.exists() for attempt in folder.attempt_folders())


def test_of_many_that_take_a_number_at_once_one_gets_it(store: Store, tmp_path: Path) -> None:
    folder, go = store.of(step()), tmp_path / "go"

    def take(number: int) -> None:
        while not go.exists():
            pass
        attempt = Attempt(JobRef("local", str(number)), "host", 1, None, "", now())
        os._exit(int(folder.attempt(1).take(attempt)))

    processes = [FORK.Process(target=take, args=(number,)) for number in range(8)]
    for process in processes:
        process.start()
    go.touch()
    for process in processes:
        process.join(60)
    (winner,) = [number for number, process in enumerate(processes) if process.exitcode == 1]
    assert folder.attempts()[0].job.id == str(winner)
    assert [path.name for path in (folder.path / "attempts").iterdir()] == ["001"], "the others tidied up"


def test_a_number_that_a_file_server_gave_twice_is_taken(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It renamed, its answer was lost, and asked again it found nothing to rename."""
    rename = os.rename

    def asked_twice(source: Path, target: Path) -> None:
        rename(source, target)
        rename(source, target)

    monkeypatch.setattr(os, "rename", asked_twice)
    assert store.of(step()).attempt(1).take(Attempt(JobRef("local", "1"), "host", 1, None, "", now()))


def test_ranks_follow_the_attempt_of_their_own_start_once_it_is_ready(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.of(step())
    for number, start in enumerate(("64 restart 0", "64 restart 1"), start=1):
        attempt = Attempt(JobRef("slurm", "64"), f"n{number}", 2, None, "", now(), job_start=start)
        assert folder.attempt(number).take(attempt)
    folder.attempt(1).begin()

    def wait(seconds: float) -> None:
        folder.attempt(2).begin()

    monkeypatch.setattr(time, "sleep", wait)
    for restart in (0, 1):
        as_slurm_job(monkeypatch, tmp_path, restart, rank=1)
        assert follow(folder, StopRequest()) == folder.attempt(restart + 1)


def test_what_an_earlier_attempt_saved_is_deleted_when_it_has_surely_ended(
    store: Store, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt ends with a record, the first, of the same job, without one: it may be on a lost node."""
    folder = store.of(step())
    assert folder.attempt(1).take(Attempt(JobRef("slurm", "64"), "n1", 1, None, "", now()))
    folder.attempt(1).begin()
    as_slurm_job(monkeypatch, tmp_path, restart=1)

    def fail(config: object, inputs: object, out: Path) -> None:
        raise RuntimeError("no")

    def looks(config: Any, inputs: Any, out: Path) -> None:
        assert [attempt.out.exists() for attempt in folder.attempt_folders()] == [True, False, True]
        write(config, inputs, out)

    with pytest.raises(RuntimeError):
        make(step(), fail)
    assert make(step(), looks).done
    assert not any(attempt.out.exists() for attempt in folder.attempt_folders())


def test_where_slurm_does_not_answer_what_earlier_attempts_saved_is_kept_and_the_step_is_made(
    store: Store, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: Commands
) -> None:
    """squeue is too busy at first, then says that the earlier job is gone, and from then on nothing."""
    folder, asked, pauses = store.of(step()), tmp_path / "asked", list[float]()
    assert folder.attempt(1).take(Attempt(JobRef("slurm", "63"), "n1", 1, None, "", now()))
    folder.attempt(1).begin()
    busy = "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1"
    commands(squeue=f"echo . >> {asked}; [ $(wc -l < {asked}) -eq 9 ] || {{ {busy}; }}", scontrol="")
    as_slurm_job(monkeypatch, tmp_path, restart=0)
    monkeypatch.setattr(slurm_commands.time, "sleep", pauses.append)

    def looks(config: Any, inputs: Any, out: Path) -> None:
        assert folder.attempt(1).out.exists()
        write(config, inputs, out)

    assert make(step(), looks).done
    assert sum(pauses) == sum(slurm_commands.PAUSES_IN_A_JOB[:8]) + sum(slurm_commands.PAUSES_IN_A_JOB)
    assert not folder.attempt(1).out.exists()
