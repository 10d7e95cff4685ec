"""What this machine can and cannot do, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import psutil

from msm_hpc.model.precision import INSTALL_TE, installed_te, te_problem

SMALLEST_DISK_GB = 5


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``bad`` means that a campaign cannot run here; ``note`` that something else cannot."""

    level: Literal["ok", "note", "bad"]
    what: str
    fix: str = ""


def examine() -> list[Finding]:
    """Look at Python, the packages, GPUs, Slurm and the disk."""
    return [*_machine(), *_packages(), *_accelerator(), *_transformer_engine(), *_slurm()]


def _machine() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    memory = psutil.virtual_memory().total / 2**30
    yield Finding("ok", f"Python {python}, {os.cpu_count()} cores, {memory:.0f} GiB of memory")
    free = shutil.disk_usage(".").free / 1e9
    if free < SMALLEST_DISK_GB:
        yield Finding(
            "note",
            f"{free:.1f} GB free here",
            "with its virtual environment the demo needs about 2 GB; use a larger disk",
        )
    else:
        yield Finding("ok", f"{free:.0f} GB free here")


def _packages() -> Iterator[Finding]:
    for name in ("torch", "megatron-core", "transformers", "submitit", "hydra-core"):
        try:
            yield Finding("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            yield Finding("bad", f"{name} is not installed", "pip install -e . -c constraints.txt")


def _accelerator() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(index)
            name = torch.cuda.get_device_name(index)
            yield Finding("ok", f"GPU {index}: {name}, compute capability {major}.{minor} (cluster=local uses the CPU)")
    else:
        yield Finding(
            "note", "no GPU: training runs Megatron-core on CPU with gloo", "enough for the demo and for rehearsals"
        )


def _transformer_engine() -> Iterator[Finding]:
    found = importlib.util.find_spec("transformer_engine")
    if found is None:
        fix = f"on a GPU machine: {INSTALL_TE}"
        yield Finding("note", "Transformer Engine is not installed: no FP8", fix)
    elif found.origin is None:
        yield Finding(
            "bad",
            "an empty folder transformer_engine/ is left from an earlier installation, and Megatron-core fails on it",
            f"delete {list(found.submodule_search_locations or [])}",
        )
    else:
        yield _te_version(installed_te())


def _te_version(installed: str | None) -> Finding:
    problem = te_problem(installed)
    return Finding("bad", problem, INSTALL_TE) if problem else Finding("ok", f"Transformer Engine {installed}")


def _slurm() -> Iterator[Finding]:
    missing = [name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None]
    if missing:
        fix = "use cluster=local here, cluster=slurm on a login node"
        yield Finding("note", f"no Slurm: {', '.join(missing)} not on the PATH", fix)
        return
    answer = subprocess.run(["sinfo", "--noheader", "--format=%R"], capture_output=True, text=True, check=False)
    if answer.returncode:
        yield Finding(
            "note",
            f"Slurm is installed, but does not answer: {answer.stderr.strip().rpartition(chr(10))[2]}",
            "is slurmctld up?",
        )
    else:
        yield Finding("ok", f"Slurm, partitions: {', '.join(sorted(set(answer.stdout.split())))}")
