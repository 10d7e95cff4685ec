"""What a launcher is asked to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msm_hpc.config.cluster import Work


@dataclass(frozen=True, kw_only=True)
class ArrayRequest:
    """A job array of one shape: element i calls ``function(*given, each[i])`` in every rank.

    Attributes:
        name: what squeue shows.
        work: what each element does, to which the cluster gives resources.
        function: one that a job can import.
        dependency: what the array waits for, in sbatch's syntax; empty: nothing.
        gate: called with ``given`` in every rank ahead; a job in which it fails ends.
        token: a word of its own, kept in the job's comment, by which the array is found in the queue.
    """

    name: str
    work: Work
    function: Callable[..., None]
    each: tuple[str, ...]
    given: tuple[str, ...] = ()
    nodes: int = 1
    ranks_per_node: int = 1
    dependency: str = ""
    token: str = ""
    gate: Callable[..., None] | None = None

    @property
    def elements(self) -> int:
        """How many jobs the array has."""
        return len(self.each)
