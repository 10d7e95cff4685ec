"""From steps to bundles: what one job does, one step after another, and on whole nodes several such chains at once.

A job costs a wait in the queue, a start of Python and the reading of weights, often more than the step itself. So

- an export is made by the job of its training, and an evaluation by that of its export, where they run on as many
  ranks and nothing else waits for what they read
- packs that read the same shards are made by one job
- trainings that start from the same weights are made by one job, as long as that is forecast to be short enough, and no
  more of them than there are for each place that they can run in at once
- a few evals that ask models of one base through a server are made by one job, which starts it once

::

    midtrain affordability/seed0 ──▶ aft 1250 ▶ export ▶ eval ▶ aft 5000 ▶ export ▶ eval       two jobs, not seven

A bundle reads only what earlier bundles make, so that they can wait for each other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TypeAlias

from msm_hpc.config.cluster import Work, WorkClass
from msm_hpc.graph.steps import Step, topological

FOLLOWS: Mapping[str, tuple[str, ...]] = {"export": ("checkpoint",), "eval": ("adapter", "model")}
"""For a kind, the roles of what it reads last; the job that makes the first of them there is makes it, too."""
DEMANDING: tuple[WorkClass, ...] = ("cpu", "gpu_eval", "gpu_train")
MOST_PACKS = 32
"""Packs of one job. Each takes seconds; this many a few minutes."""
MOST_ASKED = 4
"""Evals of one job that ask a server: to start it takes minutes, but one eval perhaps an hour."""
_Shape: TypeAlias = tuple[str, int, int]
"""Stage, ranks and nodes of a training."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """Steps of as many ranks on as many nodes, each after those that it reads.

    ``lanes`` run side by side on a node, the steps of each one after another; there are several only where a site gives
    out whole nodes (:func:`msm_hpc.graph.arrays.side_by_side`).
    """

    lanes: tuple[tuple[Step, ...], ...]

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Those of all lanes."""
        return tuple(chain.from_iterable(self.lanes))

    @property
    def first(self) -> Step:
        """A step that it begins with."""
        return self.lanes[0][0]

    @property
    def work(self) -> Work:
        """That of its most demanding step, whose resources its job gets."""
        return max((step.work for step in self.steps), key=lambda work: DEMANDING.index(work.of))

    @cached_property
    def parents(self) -> tuple[Step, ...]:
        """The steps of other bundles that it reads."""
        own = {step.identity for step in self.steps}
        read = {parent.identity: parent for step in self.steps for parent in step.parents}
        return tuple(parent for identity, parent in read.items() if identity not in own)


def plan_bundles(
    steps: Sequence[Step],
    minutes: Callable[[Step], float | None],
    most_minutes: float,
    at_once: Callable[[Step], int] = lambda step: 1,
) -> tuple[Bundle, ...]:
    """Bundles for ``steps``, each behind those that it reads from.

    Args:
        steps: inputs before the steps that read them; what is not among them is taken as present.
        minutes: the forecast for a training, None where there is none: its job does no other training.
        most_minutes: the most that all trainings of a job may be forecast to take.
        at_once: how many trainings of the shape of one run side by side: none of these places is left idle.
    """
    readers = Counter(parent.identity for step in steps for parent in step.parents)
    found = _Bundles(minutes, most_minutes, readers, _shares(steps, at_once))
    for step in _by_depth(steps):
        found.add(step)
    return tuple(Bundle((_in_order(each),)) for each in found.made)


def _by_depth(steps: Sequence[Step]) -> list[Step]:
    """In the order of work of the whole campaign, so that all packs come before any training that reads one."""
    depths: dict[str, int] = {}
    for step in steps:
        depths[step.identity] = 1 + max((depths.get(parent.identity, -1) for parent in step.parents), default=-1)
    return sorted(steps, key=lambda step: depths[step.identity])


def _in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Each evaluation as soon as its model is there."""
    own = {step.identity for step in steps}
    read = {parent.identity for step in steps for parent in step.parents}
    last = tuple(step for step in steps if step.identity not in read)
    return topological(last, stop=lambda step: step.identity not in own)


@dataclass
class _Bundles:
    """Bundles as they grow: each reads only what those before it make, since a step joins none that it is behind of."""

    minutes: Callable[[Step], float | None]
    most_minutes: float
    readers: Mapping[str, int]
    shares: Mapping[_Shape, int]
    made: list[list[Step]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    open: dict[Hashable, int] = field(default_factory=dict)
    """The newest bundle of steps that may share a job."""

    def add(self, step: Step) -> None:
        """Put the step, whose inputs are in already, into a bundle."""
        key = _alike(step)
        joined = [self._followed(step), self.open.get(key) if key else None]
        number = next((each for each in joined if each is not None and self._fits(step, each)), len(self.made))
        if number == len(self.made):
            self.made.append([])
            self.open |= {key: number} if key else {}
        self.made[number].append(step)
        self.places[step.identity] = number

    def _followed(self, step: Step) -> int | None:
        given = (step.inputs.get(role) for role in FOLLOWS.get(step.kind, ()))
        read = next((origin for origin in given if isinstance(origin, Step)), None)
        return self.places.get(read.identity) if read and self.readers[read.identity] == 1 else None

    def _fits(self, step: Step, number: int) -> bool:
        first, there = self.made[number][0], self.made[number]
        behind = any(self.places.get(parent.identity, -1) > number for parent in step.parents)
        if behind or (step.ranks, step.nodes) != (first.ranks, first.nodes):
            return False
        if step.kind == "pack":
            return len(there) < MOST_PACKS
        if step.kind == "sample":
            return len(there) < MOST_ASKED
        if step.kind != "train":
            return True
        forecasts = [self.minutes(each) for each in (*there, step) if each.kind == "train"]
        if None in forecasts or len(forecasts) > self.shares[_shape(step)]:
            return False
        return sum(each or 0 for each in forecasts) <= self.most_minutes


def _shape(step: Step) -> _Shape:
    return step.stage, step.ranks, step.nodes


def _shares(steps: Sequence[Step], at_once: Callable[[Step], int]) -> dict[_Shape, int]:
    """The most trainings of a shape that one job does, so that all that can run at once do."""
    trainings = [step for step in steps if step.kind == "train"]
    counts = Counter(map(_shape, trainings))
    of_each = {_shape(step): step for step in trainings}
    return {shape: math.ceil(counts[shape] / at_once(step)) for shape, step in of_each.items()}


def _alike(step: Step) -> Hashable:
    """What steps agree in that may share a job; None of one that shares none."""
    if step.kind == "pack":
        return step.stage, tuple(parent.identity for parent in step.parents)
    if step.kind == "train":
        start = next(step.inputs[role] for role in ("checkpoint", "base", "model") if role in step.inputs)
        assert isinstance(start, Step)
        return step.stage, start.identity, step.ranks, step.nodes
    if step.kind == "sample" and not step.shares and step.config.serving.server != "transformers":
        base = step.inputs["model"]
        assert isinstance(base, Step)
        # Shares of one eval are to run at the same time: each has a job, with the same share of other evals.
        return step.config.serving, base.identity, step.config.share, step.config.shares
    return None
