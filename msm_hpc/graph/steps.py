"""A step, and its identity.

A step is (kind, config, inputs). Its identity is a hash of just these, so that the same work has the same name
wherever it is asked for. Take two arms of a campaign::

    midtrain(affordability, seed 0) ──▶ aft(instruction mix)              arm msm
                                   └──▶ aft(instruction mix + chats)      arm msm+aft

Both name a midtrain step with equal config and equal inputs, hence of equal identity: it is made once. Change
``aft.samples`` and the midtrain step keeps its identity, so a re-run finds it done; change
``midtrain.learning_rate`` and the midtrain step, and through its identity everything that reads it, gets a new one.
Fields made with ``config.placement`` (layout, micro-batch, logging) are left out: they change where a step runs, not
what it makes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from msm_hpc.config.schema import PLACEMENT
from msm_hpc.conversion.files import model_files
from msm_hpc.graph.kinds import KINDS, Kind

SHORT = 16


@dataclass(frozen=True)
class File:
    """An input from outside the campaign: a file, known by its content, or a folder of weights.

    A folder is known by the names, sizes and modification times of the files that make the model: to hash 64 GB of
    weights at each command would take a minute.
    """

    path: Path

    @cached_property
    def identity(self) -> str:
        """SHA-256 in hexadecimal."""
        if self.path.is_dir():
            listing = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in model_files(self.path)]
            return hashlib.sha256(canonical_json(listing).encode()).hexdigest()
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Step:
    """One piece of work: a stage, its config, and where its inputs come from.

    ``inputs`` maps a role, such as ``"checkpoint"``, to the step or file that plays it. ``label`` is for people and
    no part of the identity.
    """

    kind: str
    label: str
    config: Any
    inputs: Mapping[str, Step | File]

    @property
    def definition(self) -> Kind:
        """How steps of this kind are made."""
        return KINDS[self.kind]

    @cached_property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of everything that decides the result."""
        decides = {
            "kind": self.kind,
            "version": self.definition.version,
            "config": result_fields(self.config),
            "inputs": {role: source.identity for role, source in self.inputs.items()},
        }
        return hashlib.sha256(canonical_json(decides).encode()).hexdigest()

    @property
    def id(self) -> str:
        """Kind and short identity, unique in a store: ``aft/0123456789abcdef``."""
        return f"{self.kind}/{self.identity[:SHORT]}"

    @property
    def name(self) -> str:
        """For people: ``aft/affordability/msm+aft/5000/seed1``."""
        return f"{self.kind}/{self.label}"

    @property
    def ranks(self) -> int:
        """Processes the step runs as: the world size of a training step, else one."""
        layout = getattr(self.config, "layout", None)
        return layout.world_size if layout else 1

    @property
    def ranks_per_node(self) -> int:
        """Processes on each node."""
        return self.ranks // self.nodes

    @property
    def nodes(self) -> int:
        """Machines the ranks are spread over."""
        layout = getattr(self.config, "layout", None)
        return layout.nodes if layout else 1

    @property
    def parents(self) -> tuple[Step, ...]:
        """The steps that this one reads."""
        return tuple(source for source in self.inputs.values() if isinstance(source, Step))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def result_fields(config: Any) -> Any:
    """``config`` as JSON values, without the fields that only place the work."""
    if is_dataclass(config):
        decisive = (item for item in fields(config) if not item.metadata.get(PLACEMENT))
        return {item.name: result_fields(getattr(config, item.name)) for item in decisive}
    if isinstance(config, tuple | list):
        return [result_fields(item) for item in config]
    if isinstance(config, Mapping):
        return {key: result_fields(value) for key, value in config.items()}
    return str(config) if isinstance(config, Path) else config


def topological(targets: tuple[Step, ...]) -> tuple[Step, ...]:
    """``targets`` and all they need, each identity once, inputs before the steps that read them."""
    ordered: dict[str, Step] = {}

    def visit(step: Step) -> Iterator[Step]:
        for parent in step.parents:
            yield from visit(parent)
        yield step

    for target in targets:
        for step in visit(target):
            ordered.setdefault(step.identity, step)
    return tuple(ordered.values())
