"""Whichever rank is killed, and whenever: the resumed run ends with the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 4
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_bits(tmp_path: Path) -> None:
    """In a process of its own: ranks are forks of it, and this one has threads."""
    command = [sys.executable, "-m", "tests.training.kill_drill", str(tmp_path), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith(f"{KILLS} of {KILLS} equal\n"), done.stdout + done.stderr[-2000:]
