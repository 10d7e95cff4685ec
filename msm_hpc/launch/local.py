"""Jobs on this machine, through submitit's local executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import submitit

FOREVER_MINUTES = 60 * 24 * 365  # submitit's default ends a job after two minutes


def start_local(folder: Path, ranks: int, function: Callable[..., None], *arguments: str) -> submitit.Job[None]:
    """Start ``function(*arguments)`` in ``ranks`` processes; logs and pickles go to ``folder``.

    One thread a rank: more would fight over the cores that the other ranks and jobs were given.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(tasks_per_node=ranks, timeout_min=FOREVER_MINUTES)
    return executor.submit(function, *arguments)
