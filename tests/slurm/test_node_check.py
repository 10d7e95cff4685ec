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
