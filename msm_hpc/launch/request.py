"""What a launcher is asked to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.config.cluster import Work

BESIDE = "|"
"""Between the items of two lanes."""


@dataclass(frozen=True, kw_only=True)
class ArrayRequest:
    """A job array of one shape: element i calls ``function(*given, *each[i])`` in every rank.

    Attributes:
        name: what squeue shows.
        work: what each element does, to which the cluster gives resources.
        also: other work that it does, of whose memory and CPUs it gets as much as that needs.
        function: one that a job can import.
        each: for each element its items; where it has several, they are words without spaces. Items with ``BESIDE``
            between them run side by side.
        lanes: how many run side by side, at most.
        code: the folder of packages that jobs run; None: those that are installed.
        minutes: the time that a job asks for, no more than its class of work has; None: that.
        dependency: what the array waits for, in sbatch's syntax; empty: nothing.
        gate: called with ``given`` in every rank ahead; a job in which it fails ends.
        token: a word of its own, kept in the job's comment, by which the array is found in the queue.
        avoid: nodes not to run on if there are enough others, the worst first.
    """

    name: str
    work: Work
    function: Callable[..., None]
    each: tuple[tuple[str, ...], ...]
    given: tuple[str, ...] = ()
    nodes: int = 1
    ranks_per_node: int = 1
    dependency: str = ""
    token: str = ""
    code: Path | None = None
    minutes: int | None = None
    avoid: tuple[str, ...] = ()
    gate: Callable[..., None] | None = None
    also: tuple[Work, ...] = ()
    lanes: int = 1

    @property
    def elements(self) -> int:
        """How many jobs the array has."""
        return len(self.each)

    @property
    def several(self) -> bool:
        """Whether a job has several items."""
        return any(len(items) > 1 for items in self.each)

    @property
    def ranks(self) -> int:
        """Processes of a call."""
        return self.nodes * self.ranks_per_node
