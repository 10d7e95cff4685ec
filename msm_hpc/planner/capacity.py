"""The memory that a rank has, against which a training's needs are checked."""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.model.gpus import GPUS


@dataclass(frozen=True)
class Capacity:
    """Memory of one rank in bytes, None where it is not known, and the ``name`` that messages have for it."""

    name: str
    memory: int | None


def capacity(cluster: Cluster, ranks: int, work: Work) -> Capacity:
    """The memory of each of the ``ranks`` ranks of a training: a GPU's, or a share of a job's or this machine's."""
    if cluster.trains_on_gpus:
        name = f"a {cluster.gpu}" if cluster.gpu else "a GPU"
        return Capacity(name, GPUS[cluster.gpu].memory if cluster.gpu else None)
    return Capacity(*launcher_of(cluster).memory_of_rank(ranks, work))
