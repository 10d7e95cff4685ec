"""What a job holds on a cluster, and since when: its script says so to its ranks."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil

VARIABLE = "MSM_ALLOCATION"


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
    """Bytes of this node's memory: of what is free, or of what Slurm gives to the job or this lane of it, its part."""
    free = psutil.virtual_memory().available
    given = int(os.environ.get("SLURM_MEM_PER_NODE", "0")) << 20  # 0: all that the node has
    return min(free, given or free) / int(os.environ.get("SLURM_NTASKS_PER_NODE", "1"))
