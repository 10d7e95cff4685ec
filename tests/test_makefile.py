"""``make demo`` with a Python that cannot run this says so before anything is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.commands import put

REPOSITORY = Path(__file__).parents[1]


def make(goal: str, python: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(REPOSITORY), f"PYTHON={python}", f"VENV={tmp_path / 'venv'}", goal]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("goal", ["demo", "lint"])
def test_another_python_is_refused_in_a_sentence(goal: str, tmp_path: Path) -> None:
    calls = put(tmp_path, python3='[ "$1" = --version ] && echo Python 3.9.2 && exit 0; exit 1')
    ended = make(goal, str(tmp_path / "python3"), tmp_path)
    assert ended.returncode != 0
    said = f"make: msm_hpc needs Python 3.11 or 3.12, but {tmp_path}/python3 says: Python 3.9.2; name another: "
    assert f"{said}make PYTHON=python3.12 {goal}\n" in ended.stderr
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["-c", "--version"], "no venv, no pip"
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all_is_the_same_sentence(tmp_path: Path) -> None:
    ended = make("demo", "no-such-python", tmp_path)
    assert ended.returncode != 0 and "needs Python 3.11 or 3.12, but no-such-python says: " in ended.stderr


def test_a_python_that_can_is_used(tmp_path: Path) -> None:
    calls = put(tmp_path, python3='[ "$1" = -m ] && echo "would make $3" && exit 7; exit 0')
    ended = make("demo", str(tmp_path / "python3"), tmp_path)
    assert f"would make {tmp_path}/venv" in ended.stdout
    assert [line.split()[1] for line in calls.read_text().splitlines()] == ["-c", "-m"]
