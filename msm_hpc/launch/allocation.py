"""What a job holds on a cluster, and since when: its script says so to its ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

VARIABLE = "MSM_ALLOCATION"
MEMORY = "MSM_RANK_MB"
"""The variable with what a job gives each rank of its memory, in MiB; 0: it has all of its nodes."""


@dataclass(frozen=True)
class Allocation:
    """Room for ``tasks`` ranks and ``gpus`` GPUs, from ``since`` (seconds since the epoch) until the job ends."""

    since: float
    tasks: int
    gpus: int


def shell_line(tasks: int) -> str:
    """What a script for so many ranks does first, since all that follows takes of the time that the job holds.

    Slurm says when the job began since 23.02; before that, this line is run within a second of it.
    """
    began, gpus = "${SLURM_JOB_START_TIME:-$EPOCHSECONDS}", "$((${SLURM_GPUS_ON_NODE:-0} * SLURM_NNODES))"
    return f'export {VARIABLE}="{began} {tasks} {gpus}"'


def current_allocation() -> Allocation | None:
    """That of the job that this process belongs to; None of a process that no cluster was asked for."""
    given = os.environ.get(VARIABLE)
    if given is None:
        return None
    since, tasks, gpus = given.split()
    return Allocation(float(since), int(tasks), int(gpus))


def memory_of_a_rank() -> float:
    """Bytes of its node's memory that a rank may have: its part of what is free, and no more than its job gives it."""
    held, given = current_allocation(), int(os.environ.get(MEMORY, "0")) << 20
    ranks = held.tasks // int(os.environ.get("SLURM_JOB_NUM_NODES", "1")) if held else 1
    part = psutil.virtual_memory().available / ranks
    return min(part, given) if given else part
