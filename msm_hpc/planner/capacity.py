"""What there is for trainings: the memory of a rank, and room for how many side by side."""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.config.training import Layout
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


def ranks_a_node(cluster: Cluster) -> int:
    """The most ranks of one job on a node."""
    return launcher_of(cluster).most_ranks_per_node


def trainings_at_once(cluster: Cluster, layout: Layout) -> int:
    """How many trainings of a layout fit onto ``cluster.nodes`` at once, and may run at once as jobs; at least one."""
    on_a_node = max(ranks_a_node(cluster) // layout.world_size, 1)
    there = cluster.nodes // layout.nodes * on_a_node
    return max(min(there, launcher_of(cluster).at_once(layout.world_size)), 1)
