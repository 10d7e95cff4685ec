"""What a result is made of: every step behind it, down to the files from outside, with the jobs that made them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.hashes import FileHashes
from msm_hpc.base.text import few
from msm_hpc.config.stages import Cell
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import File, Step, origins, result_fields, topological
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class Input:
    """What a step reads: the result of the step with this ``id``, or a file from outside."""

    role: str
    identity: str
    id: str | None = None
    path: str | None = None


@dataclass(frozen=True)
class Traced:
    """A step behind a result.

    Attributes:
        config: the fields that decide the result.
        lacks: why there is no result, where there is none.
        files: of the result, by their path in it.
        made_by: the number of the attempt that made the result, counted from 1.
        rank_hours: of all attempts that recorded their end.
    """

    id: str
    name: str
    identity: str
    config: Mapping[str, Any]
    inputs: tuple[Input, ...]
    shares: tuple[str, ...]
    out: str
    lacks: str | None
    files: Mapping[str, FileHashes]
    made_by: int | None
    attempts: tuple[Attempt, ...]
    rank_hours: float

    @property
    def maker(self) -> Attempt | None:
        """The attempt that made the result."""
        there = self.made_by is not None and self.made_by <= len(self.attempts)
        return self.attempts[self.made_by - 1] if self.made_by and there else None


@dataclass(frozen=True)
class Trace:
    """The steps behind that of ``target``, which is the last; ``cell`` is what it measures, if it is one of a cell."""

    campaign: str
    root: str
    cell: Cell | None
    target: str
    steps: tuple[Traced, ...]


def target(graph: Graph, name: str) -> tuple[Cell | None, Step]:
    """The cell that has all parts of ``name`` (arm, spec, size, seed, model, in any order), or else a step.

    Raises:
        UserError: there is none of that name, or more than one.
    """
    parts = set(name.split("/"))
    found = [(cell, step) for cell, step in graph.cells if parts <= set(_parts(cell))]
    if len(found) == 1:
        return found[0]
    names = few(["/".join(_parts(cell)) for cell, _ in found or graph.cells])
    if found:
        raise UserError(f"{name!r} is {len(found)} cells: {names}; name one of them")
    if not any(name == step.name or step.id.startswith(name) for step in graph.steps):
        raise UserError(f"no cell and no step is {name!r}; cells are {names}; `msm plan --steps` lists steps")
    return None, graph.find(name)


def _parts(cell: Cell) -> list[str]:
    """What a cell is called by."""
    size = None if cell.size is None else str(cell.size)
    return [part for part in (cell.arm, cell.spec, size, f"seed{cell.seed}", cell.model) if part is not None]


def trace(campaign: str, cell: Cell | None, step: Step, store: Store) -> Trace:
    """All that is known of what ``step`` is made of."""
    steps = tuple(_traced(each, store) for each in topological((step,)))
    return Trace(campaign, str(store.root), cell, step.id, steps)


def _traced(step: Step, store: Store) -> Traced:
    folder = store.of(step)
    published, attempts = folder.published, tuple(folder.attempts())
    return Traced(
        id=step.id,
        name=step.name,
        identity=step.identity,
        config=result_fields(step.config, with_defaults=True),
        inputs=tuple(_input(role, origin) for role, origin in origins(step.inputs)),
        shares=tuple(share.id for share in step.shares),
        out=str(folder.out),
        lacks=None if folder.done else folder.damage() or "not made yet",
        files=published.files if published else {},
        made_by=published.attempt if published else None,
        attempts=attempts,
        rank_hours=sum(each.seconds * each.ranks for each in attempts if each.end) / 3600,
    )


def _input(role: str, origin: Step | File) -> Input:
    if isinstance(origin, File):
        return Input(role, origin.identity, path=str(origin.path))
    return Input(role, origin.identity, id=origin.id)
