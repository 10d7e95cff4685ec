"""What a launcher is asked to run."""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.config.cluster import WorkClass


@dataclass(frozen=True)
class ArrayRequest:
    """A job array: ``elements`` calls of one shape.

    ``work`` says which of the cluster's resources each gets, ``dependency`` in sbatch's syntax what they wait for
    (empty: nothing). ``name`` is what squeue shows.
    """

    name: str
    work: WorkClass
    elements: int
    nodes: int
    ranks_per_node: int
    dependency: str = ""
