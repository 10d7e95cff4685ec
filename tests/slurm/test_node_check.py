from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "slurm" / "node_check.sh"


def node_check(*arguments: str | Path, programs: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the check, with the programs of a folder before those of the machine."""
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    return subprocess.run([SCRIPT, *arguments], env={**os.environ, "PATH": path}, capture_output=True, text=True)


def program(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)
    return folder


def test_fit_node_passes_and_leaves_nothing(tmp_path: Path) -> None:
    result = node_check(tmp_path, "--free", "0")
    assert result.returncode == 0, result.stdout
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["ok    disk", "ok    folder", "ok    clock"]
    assert list(tmp_path.iterdir()) == []


def test_too_little_room(tmp_path: Path) -> None:
    result = node_check(tmp_path, "--free", "100000000")
    assert result.returncode == 1
    assert "FAIL  disk" in result.stdout
    assert "100000000 needed. Fix: " in result.stdout


def test_missing_folder(tmp_path: Path) -> None:
    result = node_check(tmp_path / "absent", "--free", "0")
    assert result.returncode == 1
    assert "absent is not there. Fix: " in result.stdout


def test_folder_that_cannot_be_written() -> None:
    result = node_check("/proc", "--free", "0")  # read-only even for root
    assert result.returncode == 1
    assert "cannot write in /proc. Fix: " in result.stdout


def test_clock_that_disagrees_with_the_file_server(tmp_path: Path) -> None:
    programs = program(tmp_path / "bin", "date", "echo 1000")
    result = node_check(tmp_path, "--free", "0", programs=programs)
    assert result.returncode == 1
    assert "FAIL  clock: -" in result.stdout


@pytest.mark.parametrize(("found", "status"), [(8, 0), (7, 1), (0, 1)])
def test_gpus_are_counted(tmp_path: Path, found: int, status: int) -> None:
    programs = program(tmp_path / "bin", "nvidia-smi", f"for ((i = 0; i < {found}; i++)); do echo GPU-$i; done")
    result = node_check(tmp_path, "--free", "0", "--gpus", "8", programs=programs)
    assert result.returncode == status
    assert f"gpus: {found} answer" in result.stdout


def test_failing_driver_counts_as_no_gpu(tmp_path: Path) -> None:
    programs = program(tmp_path / "bin", "nvidia-smi", "echo 'Failed to initialize NVML'; exit 255")
    result = node_check(tmp_path, "--free", "0", "--gpus", "1", programs=programs)
    assert result.returncode == 1
    assert "gpus: 0 answer nvidia-smi, 1 needed. Fix: " in result.stdout


@pytest.mark.parametrize("arguments", [[], ["--free", "much", "/"], ["--depth", "/"], ["/", "/tmp"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = node_check(*arguments)
    assert result.returncode == 2
    assert "usage: node_check.sh ROOT" in result.stderr
