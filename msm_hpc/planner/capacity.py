"""What the machines have, against what a training needs."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from msm_hpc.config.campaign import Cluster
from msm_hpc.model.gpus import GPUS
from msm_hpc.planner.memory import GIB


@dataclass(frozen=True)
class Room:
    """Memory (bytes) of one rank, where it is known, and the name that messages have for it."""

    name: str
    memory: int | None


def room(cluster: Cluster, ranks: int) -> Room:
    """What each of ``ranks`` ranks of a job has: a GPU, its share of a Slurm job, or of this machine."""
    if cluster.gpus_per_node:
        return Room(f"a {cluster.gpu}" if cluster.gpu else "a GPU", GPUS[cluster.gpu].memory if cluster.gpu else None)
    if cluster.kind == "slurm":
        return Room(f"cluster.memory_gb={cluster.memory_gb:g}", int(cluster.memory_gb * GIB))
    share = f"this machine over {ranks} ranks" if ranks > 1 else "this machine"
    return Room(share, psutil.virtual_memory().total // ranks)
