"""A launcher that is killed or hung up on, with real processes: its jobs notice and stop."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, Signals

import pytest

from msm_hpc.launch.local import follow_launcher, hangup_interrupts, start_local

SECONDS = 120


def wait_for_the_end(folder: str) -> None:
    """The job: says that it runs, and how it was stopped."""
    follow_launcher(SIGINT)
    (Path(folder) / "running").touch()
    try:
        time.sleep(SECONDS)
    except KeyboardInterrupt:
        (Path(folder) / "stopped").touch()


def launch(folder: str) -> None:
    """What a launcher does."""
    with hangup_interrupts():
        start_local(Path(folder) / "jobs", 1, wait_for_the_end, folder).wait()


def appears(file: Path) -> bool:
    deadline = time.monotonic() + SECONDS
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return file.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("signal", "group"), [(SIGKILL, False), (SIGHUP, True)])
def test_the_jobs_of_a_launcher_that_is_gone_stop(signal: Signals, group: bool, tmp_path: Path) -> None:
    code = f"from tests.launch.test_local import launch; launch({str(tmp_path)!r})"
    launcher = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE)
    assert appears(tmp_path / "running")
    if group:
        os.killpg(launcher.pid, signal)  # as a terminal does
    else:
        launcher.send_signal(signal)
    _, said = launcher.communicate(timeout=SECONDS)
    assert (b"KeyboardInterrupt" in said) == (signal == SIGHUP)
    assert appears(tmp_path / "stopped")
