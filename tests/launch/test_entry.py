"""What ranks of a job run: signals that come while it starts, and while it runs."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.base.stopping import current_request, noticed
from msm_hpc.launch import entry

LOADED_SLOWLY = """
import os
from signal import SIGUSR2
os.kill(os.getpid(), SIGUSR2)
from tests.launch.test_entry import note
"""


def note(file: str) -> None:
    """What a job calls: it says whether it was asked to stop before it began."""
    with noticed() as request:
        Path(file).write_text(f"{request.received}")


def be_stopped(file: str) -> None:
    """What a job calls: a signal reaches it while it has not taken care of signals."""
    os.kill(os.getpid(), signal.SIGTERM)
    Path(file).write_text(f"{current_request().received}")


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls a function of a module in a rank of a Slurm job; its argument is the file ``said``."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "loaded_slowly.py").write_text(LOADED_SLOWLY)

    def call(function: Callable[[str], None], rank: int, module: str = __name__) -> subprocess.CompletedProcess[str]:
        line = entry.command(tmp_path, function, str(tmp_path / "said"))
        words = [word.replace(function.__module__, module) for word in shlex.split(line)]
        job = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "64", "SLURM_PROCID": str(rank)}
        return subprocess.run(words, env=os.environ | job, capture_output=True, text=True, check=False)

    return call


Call = Callable[..., subprocess.CompletedProcess[str]]


def test_a_signal_that_comes_while_modules_are_loaded_is_not_lost(tmp_path: Path, call: Call) -> None:
    assert call(note, rank=0, module="loaded_slowly").returncode == 0
    assert (tmp_path / "said").read_text() == str(int(signal.SIGUSR2))


def test_a_signal_ends_rank_0_and_leaves_the_others_to_it(tmp_path: Path, call: Call) -> None:
    ended = call(be_stopped, rank=0)
    assert ended.returncode and "SIGTERM asked the run to stop before it had saved anything" in ended.stderr
    assert not (tmp_path / "said").exists()
    assert call(be_stopped, rank=1).returncode == 0
    assert (tmp_path / "said").read_text() == str(int(signal.SIGTERM))
