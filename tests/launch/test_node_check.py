"""The script that looks at a node, and what is made of its lines in a job."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.launch.node_check import SCRIPT, failed_checks


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


def test_free_memory(tmp_path: Path) -> None:
    result = node_check(tmp_path, "--free", "0", "--memory", "100000000")
    assert result.returncode == 1
    assert "100000000 needed. Fix: look for processes that a job left behind" in result.stdout
    assert node_check(tmp_path, "--free", "0", "--memory", "1").returncode == 0


GPU = "80000, 0"
CALM = "Not Active, Not Active, Not Active"
LINKS = ("26.562 GB/s", "26.562 GB/s")


def nvidia_smi(
    folder: Path, memory: tuple[str, ...], clocks: tuple[str, ...], links: tuple[tuple[str, ...], ...]
) -> Path:
    """A stand-in that answers what the check asks about two GPUs, as nvidia-smi prints it."""
    status = ""
    for number, each in enumerate(links):
        status += f"GPU {number}: NVIDIA H100 80GB HBM3 (UUID: GPU-{number})\n"
        status += "".join(f"\t Link {link}: {state}\n" for link, state in enumerate(each))
    answers = {
        "*uuid*": "GPU-0\nGPU-1\n",
        "*memory.total*": "".join(f"{number}, {each}\n" for number, each in enumerate(memory)),
        "*hw_slowdown*": "".join(f"{number}, {each}\n" for number, each in enumerate(clocks)),
        "*nvlink*": status,
    }
    cases = "".join(f"{pattern}) cat <<'X'\n{answer}X\n;;\n" for pattern, answer in answers.items())
    return program(folder, "nvidia-smi", f'case "$*" in\n{cases}esac')


@pytest.mark.parametrize(
    ("memory", "clocks", "links", "said"),
    [
        ((GPU, GPU), (CALM, CALM), (LINKS, LINKS), None),
        (("80000, [N/A]", "80000, [N/A]"), ("[N/A], [N/A], [N/A]", CALM), (), None),
        (("80000, 2", GPU), (CALM, CALM), (LINKS, LINKS), "gpu memory: uncorrected ECC errors (GPU 0 has 2). Fix: "),
        (
            ("40000, 0", GPU),
            (CALM, CALM),
            (LINKS, LINKS),
            "gpu memory: the GPUs have differing sizes (40000 80000 MiB)",
        ),
        (
            (GPU, GPU),
            (CALM, "Not Active, Active, Not Active"),
            (LINKS, LINKS),
            "gpu clocks: the hardware slows GPU 1 down, for heat or power. Fix: ",
        ),
        ((GPU, GPU), (CALM, CALM), (LINKS, (LINKS[0], "<inactive>")), "nvlink: the GPUs have 2 1 active links. Fix: "),
    ],
)
def test_what_gpus_suffer_from(
    tmp_path: Path,
    memory: tuple[str, ...],
    clocks: tuple[str, ...],
    links: tuple[tuple[str, ...], ...],
    said: str | None,
) -> None:
    programs = nvidia_smi(tmp_path / "bin", memory, clocks, links)
    result = node_check(tmp_path, "--free", "0", "--gpus", "2", programs=programs)
    assert result.returncode == (0 if said is None else 1), result.stdout + result.stderr
    if said:
        assert f"FAIL  {said}" in result.stdout
        assert result.stdout.count("FAIL") == 1


@pytest.mark.parametrize("arguments", [[], ["--free", "much", "/"], ["--depth", "/"], ["/", "/tmp"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = node_check(*arguments)
    assert result.returncode == 2
    assert "usage: node_check.sh ROOT" in result.stderr


def test_the_administrators_folder_has_it_too() -> None:
    assert (Path(__file__).parents[2] / "slurm" / "node_check.sh").resolve() == SCRIPT


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """On node n7 of Slurm, whose ``programs`` come before those of this machine."""

    def set_up(programs: Path, gpus: int | None) -> None:
        monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
        monkeypatch.setenv("SLURMD_NODENAME", "n7")
        if gpus is not None:
            monkeypatch.setenv("SLURM_GPUS_ON_NODE", str(gpus))

    return set_up


def test_a_job_is_told_what_fails_and_its_log_has_all(
    tmp_path: Path, in_a_job: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    in_a_job(nvidia_smi(tmp_path / "bin", (GPU, "80000, 2"), (CALM, CALM), (LINKS, LINKS)), gpus=2)
    with caplog.at_level(logging.INFO):
        (failed,) = failed_checks(tmp_path)
    assert failed.startswith("gpu memory: uncorrected ECC errors (GPU 1 has 2). Fix: drain ")
    assert [f"n7: FAIL  {failed}", "n7: ok    gpus: 2 answer"] == sorted(
        line for line in caplog.messages if "FAIL" in line or "gpus" in line
    )


@pytest.mark.parametrize(("gpus", "why"), [(None, "the job has none"), (2, "nvidia-smi is not there")])
def test_without_gpus_or_nvidia_smi_they_are_not_looked_at_and_the_log_says_why(
    tmp_path: Path,
    in_a_job: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    gpus: int | None,
    why: str,
) -> None:
    in_a_job(program(tmp_path / "bin", "nvidia-smi", "exit 255"), gpus)
    if gpus:
        monkeypatch.setattr("msm_hpc.launch.node_check.shutil.which", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert failed_checks(tmp_path) == ()
    assert caplog.messages[0] == f"n7: GPUs are not looked at: {why}"
    assert [line.split()[2] for line in caplog.messages[1:]] == ["disk:", "folder:", "clock:"]


def test_a_full_folder_is_no_matter_of_the_node(tmp_path: Path, in_a_job: Callable[..., None]) -> None:
    in_a_job(program(tmp_path / "bin", "df", "echo Avail; echo 0"), gpus=0)
    assert failed_checks(tmp_path) == ()


def test_a_check_that_breaks_off_says_so_and_blames_no_node(tmp_path: Path, in_a_job: Callable[..., None]) -> None:
    in_a_job(program(tmp_path / "bin", "df", "echo df: stale file handle >&2; exit 1"), gpus=0)
    with pytest.raises(UserError, match=r"node_check.sh broke off on n7 with status 1: df: stale file handle; fix"):
        failed_checks(tmp_path)
