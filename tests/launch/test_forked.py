"""Jobs that are forked from a process which has imported what they need, as real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, Signals

import psutil
import pytest
from submitit.core.utils import JobPaths

from msm_hpc.launch import entry
from msm_hpc.launch.forked import ForkedJob, start_forked, start_server
from msm_hpc.launch.local import starting
from msm_hpc.launch.local_processes import ranks_of, stop_when_orphaned
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.launch.several import current_log

SECONDS = 120


def tell(file: str, *arguments: str) -> None:
    """The job: what it finds."""
    print("from Python")
    print("an error from Python", file=sys.stderr)
    subprocess.run("echo from a program; echo an error from a program >&2", shell=True, check=True)
    found = {
        "pid": os.getpid(),
        "server": os.getppid(),
        "ranks": [current_ranks().rank, current_ranks().world_size],
        "log": current_log(),
        "arguments": arguments,
        "environment": dict(os.environ),
    }
    Path(file).write_text(json.dumps(found))


def fail(message: str) -> None:
    """The job: an error."""
    raise ValueError(message)


def die() -> None:
    """The job: a death without a word."""
    os.kill(os.getpid(), SIGKILL)


def wait_for_the_end(running: str) -> None:
    """The job: starts a process that lasts, says that it runs itself, and that it was stopped."""
    stop_when_orphaned(SIGINT)
    child = subprocess.Popen(["sleep", str(SECONDS)])
    Path(running).write_text(f"{os.getpid()} {os.getppid()} ")
    try:
        time.sleep(SECONDS)
    except KeyboardInterrupt:
        Path(running).with_suffix(".stopped").touch()
    child.kill()


def launch_two(folder: str) -> None:
    """What a launcher does: it has a job forked, and when that was stopped another.

    Without importing PyTorch and the like, which takes seconds and is no part of who stops whom.
    """
    preload_only(__name__)
    for name in ("first", "second"):
        job = start(Path(folder) / "jobs", wait_for_the_end, f"{folder}/{name}.running")
        while not job.done():
            try:
                time.sleep(0.1)
            except KeyboardInterrupt:
                (Path(folder) / "interrupted").touch()


def start_one(folder: str, preloaded: str) -> None:
    """What a launcher does, where the import of what jobs need is another."""
    preload_only(preloaded)
    start(Path(folder) / "jobs", end_well)


def preload_only(name: str) -> None:
    """Have a module imported in the place of what jobs need, for the rest of this process."""
    preload = BaseContext.set_forkserver_preload
    BaseContext.set_forkserver_preload = lambda self, names: preload(self, [name])  # type: ignore[method-assign]


def start(folder: Path, function: Callable[..., None], *arguments: str) -> ForkedJob:
    with starting():
        start_server(function)
    job = start_forked(folder, 1, function, *arguments)
    assert job is not None
    return job


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def job_and_server(running: Path) -> tuple[int, int]:
    """The process ids of a job that waits for the end, and of the one that it was forked from."""
    wait_until(lambda: running.exists() and running.read_text().count(" ") == 2)
    job, server = running.read_text().split()
    return int(job), int(server)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def logs(folder: Path, job: ForkedJob) -> tuple[str, str]:
    """What is in the files that submitit names, once the job has ended."""
    wait_until(job.done)
    paths = JobPaths(folder, job.job_id, 0)
    return paths.stdout.read_text(), paths.stderr.read_text()


@pytest.mark.slow
def test_a_job_is_a_process_of_its_own_with_its_logs_and_the_environment_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, servers = tmp_path / "jobs", set()
    for number in ("1", "2"):
        monkeypatch.setenv("CALL", number)
        monkeypatch.setenv(f"ONLY_{number}", "")
        file = tmp_path / f"{number}.json"
        job = start(jobs, tell, str(file), "a b", "c")
        said = logs(jobs, job)
        monkeypatch.delenv(f"ONLY_{number}")
        found = json.loads(file.read_text())
        assert found["pid"] == int(job.job_id) != os.getpid()
        assert found["arguments"] == ["a b", "c"]
        assert found["ranks"] == [0, 1]
        assert said == ("from Python\nfrom a program\n", "an error from Python\nan error from a program\n")
        assert found["log"] == str(JobPaths(jobs, job.job_id, 0).stderr)
        assert entry.ended_well(jobs, job.job_id, 0).exists()
        environment, own = found["environment"], dict(os.environ)
        assert environment["CALL"] == number
        assert [name for name in environment if name.startswith("ONLY_")] == [f"ONLY_{number}"]
        assert environment["SUBMITIT_LOCAL_JOB_ID"] == job.job_id and "SUBMITIT_LOCAL_JOB_ID" not in own
        servers.add(found["server"])
    assert len(servers) == 1 and os.getpid() not in servers, "what they need is imported once, and not here"


def rank_of_two(folder: str) -> None:
    """The job: each rank says who it is, and waits to be stopped."""
    ranks = current_ranks()
    wait_for_the_end(f"{folder}/{ranks.rank}of{ranks.world_size}.running")


@pytest.mark.slow
def test_ranks_are_forked_from_one_process_and_stopped_together(tmp_path: Path) -> None:
    with starting():
        start_server(rank_of_two)
    job = start_forked(tmp_path / "jobs", 2, rank_of_two, str(tmp_path))
    assert job is not None
    found = [job_and_server(tmp_path / f"{rank}of2.running") for rank in (0, 1)]
    assert [parent for _, parent in found] == [int(job.job_id)] * 2
    pids = {pid for pid, _ in found}
    for pid in (int(job.job_id), *pids):
        assert {rank.pid for rank in ranks_of(pid)} == pids
    for rank in ranks_of(int(job.job_id)):
        rank.send_signal(SIGINT)
    wait_until(job.done)
    assert all((tmp_path / f"{rank}of2.stopped").exists() for rank in (0, 1))
    assert all(entry.ended_well(tmp_path / "jobs", job.job_id, rank).exists() for rank in (0, 1))


@pytest.mark.slow
def test_an_error_is_in_the_log_and_the_end_is_seen(tmp_path: Path) -> None:
    failed, died, well = start(tmp_path, fail, "what went wrong"), start(tmp_path, die), start(tmp_path, end_well)
    assert "ValueError: what went wrong" in logs(tmp_path, failed)[1]
    assert logs(tmp_path, died) == logs(tmp_path, well) == ("", "")
    assert [entry.ended_well(tmp_path, job.job_id, 0).exists() for job in (failed, died, well)] == [False, False, True]


def end_well() -> None:
    """The job: ends well and says nothing."""


@pytest.mark.slow
def test_a_job_is_cancelled_by_a_ctrl_c_of_its_own(tmp_path: Path) -> None:
    job = start(tmp_path / "jobs", wait_for_the_end, str(tmp_path / "x.running"))
    pid, server = job_and_server(tmp_path / "x.running")
    (rank,) = ranks_of(int(job.job_id))
    assert rank.pid == pid == int(job.job_id)
    rank.send_signal(SIGINT)
    wait_until(job.done)
    assert (tmp_path / "x.stopped").exists() and not is_gone(server)


@pytest.fixture
def launcher(tmp_path: Path) -> subprocess.Popen[bytes]:
    """Starts two jobs, one after the other, in a terminal of its own; a line in ``imported`` for each import of it."""
    program = tmp_path / "program.py"
    noted = f"with open({str(tmp_path / 'imported')!r}, 'a') as file: file.write(f'{{__name__}}\\n')"
    code = f"from tests.launch.test_forked import launch_two; launch_two({str(tmp_path)!r})"
    program.write_text(f"{noted}\nif __name__ == '__main__':\n    {code}\n")
    return subprocess.Popen([sys.executable, str(program)], start_new_session=True)


@pytest.mark.slow
def test_a_ctrl_c_of_the_terminal_stops_the_job_and_not_what_jobs_are_forked_from(
    tmp_path: Path, launcher: subprocess.Popen[bytes]
) -> None:
    _, server = job_and_server(tmp_path / "first.running")
    os.killpg(launcher.pid, SIGINT)
    wait_until((tmp_path / "first.stopped").exists)
    second, again = job_and_server(tmp_path / "second.running")
    assert again == server and (tmp_path / "interrupted").exists()
    os.killpg(launcher.pid, SIGINT)
    assert launcher.wait(SECONDS) == 0
    wait_until(lambda: is_gone(second) and is_gone(server))
    assert (tmp_path / "second.stopped").exists()
    assert (tmp_path / "imported").read_text() == "__main__\n", "jobs do without the program that starts them"


@pytest.mark.slow
def test_a_ctrl_c_ends_the_wait_for_what_jobs_are_forked_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tmp_path / "begun"
    (tmp_path / "lasts.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep({SECONDS})"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code = f"from tests.launch.test_forked import start_one; start_one({str(tmp_path)!r}, 'lasts')"
    launcher = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE)
    try:
        wait_until(begun.exists)
        os.killpg(launcher.pid, SIGINT)
        assert b"KeyboardInterrupt" in launcher.communicate(timeout=SECONDS / 2)[1]
    finally:
        os.killpg(launcher.pid, SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [SIGKILL, SIGHUP])
def test_nothing_is_left_of_a_launcher_that_was_killed(
    stop: Signals, tmp_path: Path, launcher: subprocess.Popen[bytes]
) -> None:
    job, server = job_and_server(tmp_path / "first.running")
    launcher.send_signal(SIGKILL) if stop == SIGKILL else os.killpg(launcher.pid, stop)
    if stop == SIGHUP:
        launcher.kill()  # under nohup it does not hear the other
    launcher.wait(SECONDS)
    wait_until((tmp_path / "first.stopped").exists)
    wait_until(lambda: is_gone(job) and is_gone(server))
    assert not (tmp_path / "second.running").exists()
