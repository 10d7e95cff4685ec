"""From steps to Slurm job arrays.

Steps of one kind, one shape, equal resources and one depth in the graph become an array. What waits for what is then
said between arrays, and the aim is that a failed element stops only what reads it. Slurm's ``aftercorr`` does that
where element i of an array reads element i of another, so an array is laid beside the one it reads::

    midtrain  [0 affordability/seed0] [1 affordability/seed1] [2 america/seed0] [3 america/seed1]
    aft       [0 affordability/msm  ] [1 …                  ] [2 …            ] [3 …            ]   aftercorr
    aft       [0 affordability/msm+aft] …                                                           aftercorr

Every midtrain element is read by two aft steps, which gives two arrays. Where the elements of an array all read the
same, they wait for that with ``afterok``. In all other cases, and for the report, the array waits with ``afterany``:
its elements find in the job whether their own inputs are there, and those that lack one end at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msm_hpc.config.cluster import Resources, WorkClasses
from msm_hpc.graph.steps import Step

Rule = Literal["aftercorr", "afterok", "afterany"]
ALIKE = WorkClasses()
"""Resources that no stage or model has of its own."""


@dataclass(frozen=True)
class Place:
    """Element ``element`` of the plan's array number ``array``."""

    array: int
    element: int


@dataclass(frozen=True)
class Dependency:
    """``elements`` is None where the whole array is meant."""

    rule: Rule
    array: int
    elements: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Array:
    """Steps that are submitted with one sbatch, and what they wait for."""

    name: str
    steps: tuple[Step, ...]
    dependencies: tuple[Dependency, ...]

    @property
    def shape(self) -> Step:
        """Any step of the array: they agree in kind, ranks, nodes and resources."""
        return self.steps[0]


def plan_arrays(steps: Sequence[Step], max_array_size: int, resources: WorkClasses = ALIKE) -> tuple[Array, ...]:
    """Arrays for ``steps`` (in topological order), each of at most ``max_array_size`` elements of equal ``resources``.

    Inputs that are not among ``steps`` are taken as present.
    """
    arrays: list[Array] = []
    places: dict[str, Place] = {}
    for group in _by_depth_and_shape(steps, resources):
        for bundle in _beside_parents(group, places, arrays):
            for start in range(0, len(bundle), max_array_size):
                chunk = tuple(bundle[start : start + max_array_size])
                places |= {step.identity: Place(len(arrays), i) for i, step in enumerate(chunk)}
                arrays.append(Array(_name(chunk, arrays), chunk, _dependencies(chunk, places, arrays)))
    return tuple(arrays)


def _by_depth_and_shape(steps: Sequence[Step], resources: WorkClasses) -> Iterator[list[Step]]:
    depths: dict[str, int] = {}
    groups: dict[tuple[int, str, str, int, int, Resources], list[Step]] = defaultdict(list)
    for step in steps:
        depth = 1 + max((depths.get(parent.identity, -1) for parent in step.parents), default=-1)
        depths[step.identity] = depth
        groups[depth, step.stage, step.kind, step.ranks, step.nodes, resources.of(step.work)].append(step)
    for key in sorted(groups, key=lambda key: key[:-1]):
        yield groups[key]


def _beside_parents(group: list[Step], places: Mapping[str, Place], arrays: Sequence[Array]) -> list[list[Step]]:
    """``group`` cut into bundles, each laid element by element beside one parent array, where that is possible."""
    latest = {step.identity: _latest_parent(step, places) for step in group}
    bundles: dict[tuple[int, int], dict[int, Step]] = defaultdict(dict)
    for step in group:
        parent = latest[step.identity]
        if parent is None:
            return [group]
        turn = sum(parent.element in bundle for (array, _), bundle in bundles.items() if array == parent.array)
        bundles[parent.array, turn][parent.element] = step
    for (array, _), bundle in bundles.items():
        if not 1 < len(bundle) == len(arrays[array].steps):
            return [group]
    return [[bundle[element] for element in sorted(bundle)] for bundle in bundles.values()]


def _latest_parent(step: Step, places: Mapping[str, Place]) -> Place | None:
    found = [places[parent.identity] for parent in step.parents if parent.identity in places]
    return max(found, key=lambda place: (place.array, place.element), default=None)


def _dependencies(
    chunk: tuple[Step, ...], places: Mapping[str, Place], arrays: Sequence[Array]
) -> tuple[Dependency, ...]:
    if chunk[0].definition.missing_inputs_allowed:
        return tuple(Dependency("afterany", array) for array in sorted(_read(chunk, places)))
    return tuple(
        _dependency(array, elements, len(chunk), len(arrays[array].steps))
        for array, elements in sorted(_read(chunk, places).items())
    )


def _dependency(array: int, reads: list[set[int]], elements: int, parents: int) -> Dependency:
    """How an array waits for ``array``, of which its element i reads the elements ``reads[i]``."""
    if elements == parents > 1 and all(read == {i} for i, read in enumerate(reads)):
        return Dependency("aftercorr", array)
    needed = sorted(set().union(*reads))
    rule: Rule = "afterok" if all(read == reads[0] for read in reads) else "afterany"
    return Dependency(rule, array, None if len(needed) == parents else tuple(needed))


def _read(chunk: tuple[Step, ...], places: Mapping[str, Place]) -> dict[int, list[set[int]]]:
    """For each parent array, the elements that each step of ``chunk`` reads."""
    read: dict[int, list[set[int]]] = {}
    for i, step in enumerate(chunk):
        for parent in step.parents:
            if place := places.get(parent.identity):
                read.setdefault(place.array, [set() for _ in chunk])[i].add(place.element)
    return read


def _name(chunk: tuple[Step, ...], arrays: Iterable[Array]) -> str:
    """The stage (or kind), numbered from its second array on: ``aft``, ``aft-2``."""
    stage = chunk[0].stage
    earlier = sum(array.shape.stage == stage for array in arrays)
    return f"{stage}-{earlier + 1}" if earlier else stage
