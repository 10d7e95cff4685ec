"""What a model is served on, by the driver: the process that asks need not have torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

_ASK = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
SECONDS_TO_ANSWER = 60.0
NONE = ("", "-1", "NoDevFiles")
"""What hides all GPUs of a node from a process; the last is what older Slurm says to jobs that were given none."""


@dataclass(frozen=True)
class Device:
    """The driver's name of a GPU, and how many this process has; or ``CPU``."""

    name: str
    gpus: int = 0


def devices() -> str:
    """The GPUs of this process, as CUDA names them; empty where nobody gave it any."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def device() -> Device:
    """That of this process; ``unknown`` where the driver does not answer."""
    if shutil.which(_ASK[0]) is None or os.environ.get("CUDA_VISIBLE_DEVICES") in NONE:
        return Device("CPU")
    try:
        said = subprocess.run(_ASK, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Device("unknown")
    names = said.strip().splitlines()
    return Device(names[0], devices().count(",") + 1) if names else Device("CPU")
