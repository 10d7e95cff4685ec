"""A launcher that is killed or hung up on, with real processes: its jobs notice and stop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIG_IGN, SIGHUP, SIGINT, SIGKILL, Signals, signal

import pytest

from msm_hpc.launch import local_processes
from msm_hpc.launch.local import failed_ranks, start_local
from msm_hpc.launch.local_processes import hangup_interrupts, stop_when_orphaned
from msm_hpc.launch.ranks import current_ranks

SECONDS = 120


def wait_for_the_end(folder: str) -> None:
    """The job: says that it runs, and how it was stopped."""
    stop_when_orphaned(SIGINT)
    (Path(folder) / "running").touch()
    try:
        time.sleep(SECONDS)
    except KeyboardInterrupt:
        (Path(folder) / "stopped").touch()


def save_and_end(folder: str) -> None:
    """The job: takes longer to save, after Ctrl-C, than submitit would give it."""
    stop_when_orphaned(SIGINT)
    (Path(folder) / "running").touch()
    try:
        time.sleep(SECONDS)
    except KeyboardInterrupt:
        signal(SIGINT, SIG_IGN)
        time.sleep(2)
        (Path(folder) / "stopped").touch()


def fail_alone(folder: str) -> None:
    """The job: rank 0 fails, and rank 1 waits for it."""
    local_processes.SECONDS_TO_END = 1.0
    if current_ranks().rank == 1:
        time.sleep(SECONDS)
        (Path(folder) / "waited").touch()
    with local_processes.ends_the_job():
        raise RuntimeError("rank 0 has failed")


def launch(folder: str, saving: bool) -> None:
    """What a launcher does."""
    with hangup_interrupts():
        start_local(Path(folder) / "jobs", 1, save_and_end if saving else wait_for_the_end, folder).wait()


def appears(file: Path) -> bool:
    deadline = time.monotonic() + SECONDS
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return file.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "group"), [(SIGKILL, False), (SIGHUP, True), (SIGINT, True)])
def test_the_jobs_of_a_launcher_that_is_gone_stop(stop: Signals, group: bool, tmp_path: Path) -> None:
    heard = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"  # these tests may run under nohup
    code = f"{heard}; from tests.launch.test_local import launch; launch({str(tmp_path)!r}, {stop == SIGINT})"
    launcher = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE)
    assert appears(tmp_path / "running")
    if group:
        os.killpg(launcher.pid, stop)  # as a terminal does
    else:
        launcher.send_signal(stop)
    _, said = launcher.communicate(timeout=SECONDS)
    assert (b"KeyboardInterrupt" in said) == (stop != SIGKILL)
    assert appears(tmp_path / "stopped")


@pytest.mark.slow
def test_the_other_ranks_do_not_wait_for_one_that_failed(tmp_path: Path) -> None:
    job = start_local(tmp_path, 2, fail_alone, str(tmp_path))
    logs = failed_ranks(job)
    assert "rank 0 has failed" in logs[0].read_text()
    assert len(logs) == 2, "the other rank was ended"
    assert not (tmp_path / "waited").exists()
