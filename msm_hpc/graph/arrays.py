"""From bundles to Slurm job arrays: a bundle is an element, the work of one job.

Bundles of one kind, one shape, equal resources and one depth in the graph become an array. What waits for what is then
said between arrays, and a failed element stops only what reads it. Slurm's ``aftercorr`` does that where element i of
an array reads element i of another, so an array is laid beside the one it reads::

    pretrain  [0 seed0] [1 seed1]
    midtrain  [0 affordability/seed0] [1 affordability/seed1]                                       aftercorr

Where the elements of an array all read the same, they wait for that with ``afterok``. In all other cases, and for the
report, the array waits with ``afterany`` for all that any element reads; ``waits`` says what each of them needs, so
that it can be started earlier (``campaign/releasing.py``). In the job, one that lacks an input ends at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msm_hpc.config.cluster import Resources, WorkClasses
from msm_hpc.graph.bundles import Bundle
from msm_hpc.graph.steps import Step

Rule = Literal["aftercorr", "afterok", "afterany"]
ALIKE = WorkClasses()
"""Resources that no stage or model has of its own."""


@dataclass(frozen=True, order=True)
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
    """Bundles that are submitted with one sbatch, and what they wait for.

    ``waits`` are for each bundle the ids of the steps that it reads, where ``dependencies`` are on more than these.
    """

    name: str
    bundles: tuple[Bundle, ...]
    dependencies: tuple[Dependency, ...]
    waits: tuple[tuple[str, ...], ...] = ()

    @property
    def shape(self) -> Step:
        """Any step of the array: they agree in ranks, nodes and resources."""
        return self.bundles[0].first

    @property
    def steps(self) -> tuple[Step, ...]:
        """Those of all bundles."""
        return tuple(step for bundle in self.bundles for step in bundle.steps)


def plan_arrays(bundles: Sequence[Bundle], max_array_size: int, resources: WorkClasses = ALIKE) -> tuple[Array, ...]:
    """Arrays for ``bundles`` (those that are read first), each of at most ``max_array_size`` of equal ``resources``.

    Inputs that are not made by ``bundles`` are taken as present.
    """
    arrays: list[Array] = []
    places: dict[str, Place] = {}
    waits = _waits(bundles)
    ids = {step.identity: step.id for bundle in bundles for step in bundle.steps}
    for group in _by_depth_and_shape(bundles, resources):
        laid = _beside_parents(group, places, arrays)
        for start in range(0, len(laid), max_array_size):
            chunk = tuple(laid[start : start + max_array_size])
            places |= {step.identity: Place(len(arrays), i) for i, each in enumerate(chunk) for step in each.steps}
            waited = [waits[bundle.first.identity] for bundle in chunk]
            dependencies = _dependencies(chunk, _read(waited, places), arrays)
            more = len(chunk) > 1 and any(each.rule == "afterany" for each in dependencies)
            own = tuple(tuple(ids[identity] for identity in each) for each in waited) if more else ()
            arrays.append(Array(_name(chunk, arrays), chunk, dependencies, own))
    return tuple(arrays)


def side_by_side(
    bundles: Sequence[Bundle],
    lanes: Callable[[Step], int],
    minutes: Callable[[Bundle], float],
    resources: WorkClasses = ALIKE,
) -> tuple[Bundle, ...]:
    """``bundles`` on whole nodes: as many as ``lanes`` says share a job, of those alike in depth, shape and resources.

    None of them reads another, and what takes about as long shares a node, of which little is idle then.
    """
    joined: list[Bundle] = []
    for group in _by_depth_and_shape(bundles, resources):
        at_once, alike = lanes(group[0].first), sorted(group, key=minutes)
        together = [alike[start : start + at_once] for start in range(0, len(alike), at_once)]
        joined += [Bundle(tuple(lane for bundle in each for lane in bundle.lanes)) for each in together]
    return tuple(joined)


def _waits(bundles: Sequence[Bundle]) -> Mapping[str, list[str]]:
    """The steps that a bundle waits for, by the identity of its first: those it reads that no other of them waits for.

    Fine-tuning waits for midtraining, and by that for the model that both read.
    """
    waits: dict[str, list[str]] = {}
    before: dict[str, set[str]] = {}
    for bundle in bundles:
        read = [parent.identity for parent in bundle.parents if parent.identity in before]
        implied = set[str]().union(*(before[identity] for identity in read))
        waits[bundle.first.identity] = [identity for identity in read if identity not in implied]
        before |= dict.fromkeys((step.identity for step in bundle.steps), implied.union(read))
    return waits


def _by_depth_and_shape(bundles: Sequence[Bundle], resources: WorkClasses) -> Iterator[list[Bundle]]:
    depths: dict[str, int] = {}
    groups: dict[tuple[int, str, str, int, int, Resources], list[Bundle]] = defaultdict(list)
    for bundle in bundles:
        depth = 1 + max((depths.get(parent.identity, -1) for parent in bundle.parents), default=-1)
        depths |= dict.fromkeys((step.identity for step in bundle.steps), depth)
        first = bundle.first
        groups[depth, first.stage, first.kind, first.ranks, first.nodes, resources.of(bundle.work)].append(bundle)
    for key in sorted(groups, key=lambda key: key[:-1]):
        yield groups[key]


def _beside_parents(group: list[Bundle], places: Mapping[str, Place], arrays: Sequence[Array]) -> list[Bundle]:
    """``group`` in the order of the arrays that it reads; element by element beside these, where each is read once."""
    latest = [_latest_parent(bundle, places) for bundle in group]
    if None in latest:
        return group
    order = {place: bundle for place, bundle in zip(latest, group, strict=True) if place}
    whole = sum(len(arrays[array].bundles) for array in {place.array for place in order})
    return [order[place] for place in sorted(order)] if len(order) == len(group) == whole else group


def _latest_parent(bundle: Bundle, places: Mapping[str, Place]) -> Place | None:
    found = [places[parent.identity] for parent in bundle.parents if parent.identity in places]
    return max(found, default=None)


def _dependencies(
    chunk: tuple[Bundle, ...], read: Mapping[int, list[set[int]]], arrays: Sequence[Array]
) -> tuple[Dependency, ...]:
    if chunk[0].first.definition.missing_inputs_allowed:
        return tuple(Dependency("afterany", array) for array in sorted(read))
    return tuple(
        _dependency(array, elements, len(chunk), len(arrays[array].bundles)) for array, elements in sorted(read.items())
    )


def _dependency(array: int, reads: list[set[int]], elements: int, parents: int) -> Dependency:
    """How an array waits for ``array``, of which its element i reads the elements ``reads[i]``."""
    if elements == parents > 1 and all(read == {i} for i, read in enumerate(reads)):
        return Dependency("aftercorr", array)
    needed = sorted(set().union(*reads))
    rule: Rule = "afterok" if all(read == reads[0] for read in reads) else "afterany"
    return Dependency(rule, array, None if len(needed) == parents else tuple(needed))


def _read(waits: Sequence[Iterable[str]], places: Mapping[str, Place]) -> dict[int, list[set[int]]]:
    """For each parent array, the elements that each element of an array waits for, by the steps that these wait for."""
    read: dict[int, list[set[int]]] = defaultdict(lambda: [set() for _ in waits])
    for i, steps in enumerate(waits):
        for place in (places[identity] for identity in steps):
            read[place.array][i].add(place.element)
    return read


def _name(chunk: tuple[Bundle, ...], arrays: Iterable[Array]) -> str:
    """The stage (or kind), numbered from its second array on: ``aft``, ``aft-2``."""
    stage = chunk[0].first.stage
    earlier = sum(array.shape.stage == stage for array in arrays)
    return f"{stage}-{earlier + 1}" if earlier else stage
