"""A step, and its identity.

A step is (kind, config, inputs). Its identity is a hash of just these, so that the same work has the same name
wherever it is asked for. Take two arms of a campaign::

    midtrain(affordability, seed 0) ──▶ aft(instruction mix)              arm msm
                                   └──▶ aft(instruction mix + chats)      arm msm+aft

Both name a midtraining with equal config and equal inputs, hence of equal identity: it is made once. Change
``sources.chats.ladder`` and it keeps its identity, so a re-run finds it done; change
``stages.midtrain.learning_rate`` and it, and through its identity everything that reads it, gets a new one.

Left out of the hash are fields made with ``config.schema.placement`` (layout, micro-batch, logging), which change where
a step runs and not what comes out, and fields that equal their default, so that a new option renames nothing. A default
must then stay as it is, or else the kind's version is raised: a golden file in the tests holds all of them.

A step may be made in ``shares``, other steps that run side by side, and then gathered. Its identity is that of the
whole: it does not depend on how many shares there were. Nor does it depend on what it is made ``after`` without reading
it: an audit may refuse what is to be tokenised, but changes nothing in its tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, Union

from msm_hpc.config.cluster import Work
from msm_hpc.config.schema import PLACEMENT
from msm_hpc.graph.kinds import KINDS, Kind

SHORT = 16
_SCALARS = (str, int, float, type(None))
T = TypeVar("T")


@dataclass(frozen=True)
class File:
    """An input from outside the campaign: a file, or a folder of weights; ``identity`` stands for its content.

    ``rows`` is how many a corpus has, where that is known.
    """

    path: Path
    identity: str
    rows: int | None = None


Origin: TypeAlias = Union["Step", File]
Inputs: TypeAlias = Mapping[str, Origin | Mapping[str, Origin]]


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work: a kind, its config, and where its inputs come from.

    Attributes:
        inputs: a role of the kind, such as ``checkpoint``, to what plays it: a step, a file, or several by name.
        label: for people, as ``recipe`` is: the stage of a training, such as ``aft``.
        shares: the steps, if any, that this one is gathered from.
        share_of: the id of the step that it is such a share of; what was saved for that counts for it, too.
        after: the steps, if any, that have to succeed first, though it reads nothing of them.
    """

    kind: str
    label: str
    config: Any
    inputs: Inputs
    recipe: str = ""
    shares: tuple[Step, ...] = field(default=())
    after: tuple[Step, ...] = field(default=())
    share_of: str = ""

    @property
    def definition(self) -> Kind:
        """How steps of this kind are made."""
        return KINDS[self.kind]

    @cached_property
    def identity(self) -> str:
        """SHA-256, in hexadecimal, of the canonical JSON of everything that decides the result."""
        config = _result_json(_This(self.config))
        inputs = canonical_json(by_role(self.inputs, lambda origin: origin.identity))
        kind, version = canonical_json(self.kind), self.definition.version
        decides = f'{{"config":{config},"inputs":{inputs},"kind":{kind},"version":{version}}}'
        return hashlib.sha256(decides.encode()).hexdigest()

    @cached_property
    def id(self) -> str:
        """Kind and short identity, unique in a store: ``train/0123456789abcdef``."""
        return f"{self.kind}/{self.identity[:SHORT]}"

    @property
    def stage(self) -> str:
        """The stage of a training, such as ``aft``; of other steps the kind."""
        return self.recipe or self.kind

    @property
    def name(self) -> str:
        """For people: ``aft/affordability/msm+aft/5000/seed1``."""
        return f"{self.stage}/{self.label}"

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

    @cached_property
    def work(self) -> Work:
        """What the cluster's profile has resources for."""
        start = self.start
        served = getattr(self.config, "serving", None) is not None
        of = "cpu" if self.shares else "gpu_eval" if served else self.definition.resources  # to gather takes no GPU
        return Work(of, self.stage, start.config.name if start.kind == "model" else "")

    @cached_property
    def start(self) -> Step:
        """The model step that its weights go back to; itself of one without weights."""
        model = self.inputs.get("model")
        return model.start if isinstance(model, Step) else self

    @cached_property
    def parents(self) -> tuple[Step, ...]:
        """The steps that this one waits for: those that it reads when it is made, and those it is made after."""
        read = tuple(origin for _, origin in origins(self.inputs) if isinstance(origin, Step))
        return self.shares or read + self.after


def origins(inputs: Inputs) -> Iterator[tuple[str, Origin]]:
    """Every step and file among ``inputs``, with its role; of several by name as ``role.name``."""
    for role, given in inputs.items():
        if isinstance(given, Step | File):
            yield role, given
        else:
            yield from ((f"{role}.{name}", origin) for name, origin in given.items())


def by_role(inputs: Inputs, value: Callable[[Origin], T]) -> dict[str, T | dict[str, T]]:
    """``inputs`` with ``value(origin)`` in the place of each step and file."""
    return {
        role: value(given)
        if isinstance(given, Step | File)
        else {name: value(origin) for name, origin in given.items()}
        for role, given in inputs.items()
    }


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class _This:
    """One config, not any that is equal: 1 equals 1.0, and their JSON differs."""

    __slots__ = ("config",)

    def __init__(self, config: Any) -> None:
        self.config = config

    def __hash__(self) -> int:
        return id(self.config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _This) and self.config is other.config


@lru_cache(maxsize=4096)
def _result_json(this: _This) -> str:
    """The canonical JSON of what decides the result; of one config that thousands of steps share, made once."""
    return canonical_json(result_fields(this.config))


def result_fields(config: Any, with_defaults: bool = False) -> Any:
    """``config`` as JSON values, without the fields that only place the work and, unless asked for, the defaults."""
    if isinstance(config, _SCALARS):  # first, for speed: most are
        return config
    if isinstance(config, tuple | list):
        return [result_fields(item, with_defaults) for item in config]
    if isinstance(config, Mapping):
        return {key: result_fields(value, with_defaults) for key, value in config.items()}
    if isinstance(config, Path):
        return str(config)
    fields: dict[str, Any] = {}
    schema: Any = type(config)
    for name, default in _decisive(schema):
        value = getattr(config, name)
        if with_defaults or value != default:
            fields[name] = result_fields(value, with_defaults)
    return fields


@cache
def _decisive(schema: Any) -> tuple[tuple[str, Any], ...]:
    """Names and defaults (a fresh object, equal to nothing, where there is none) of the fields that decide a result."""
    return tuple((item.name, default_of(item)) for item in dataclasses.fields(schema) if PLACEMENT not in item.metadata)


def default_of(item: dataclasses.Field[Any]) -> Any:
    """The default of a dataclass's field, or ``dataclasses.MISSING``."""
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def topological(targets: tuple[Step, ...], stop: Callable[[Step], bool] = lambda step: False) -> tuple[Step, ...]:
    """``targets`` and all they need, each identity once, inputs before the steps that read them.

    Where ``stop`` holds of a step, it is left out and what it needs is not looked at.
    """
    ordered: dict[str, Step] = {}
    seen: set[str] = set()

    def visit(step: Step) -> None:
        seen.add(step.identity)
        if stop(step):
            return
        for parent in step.parents:
            if parent.identity not in seen:
                visit(parent)
        ordered[step.identity] = step

    for target in targets:
        if target.identity not in seen:
            visit(target)
    return tuple(ordered.values())
