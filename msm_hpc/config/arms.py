"""Arms: the chains of stages that a campaign compares, each stage with the sources that it reads.

In YAML a link is a mapping of one key::

    msm+aft: [{midtrain: [documents]}, {aft: [instruction, chats]}]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from msm_hpc.base.errors import UserError
from msm_hpc.config.schema import Strict
from msm_hpc.config.sources import refuse_empty, refuse_twice
from msm_hpc.config.training import TrainConfig

KINDS_OF_STEP = frozenset(
    {
        "generate",
        "outline",
        "write",
        "audit",
        "download",
        "tokenizer",
        "tokenize",
        "pack",
        "model",
        "train",
        "export",
        "eval",
        "sample",
        "patterns",
        "score",
        "perplexity",
        "direction",
        "capability",
        "report",
    }
)
"""Names that no stage may have, since steps of these kinds are listed beside trainings."""


@dataclass(frozen=True, kw_only=True)
class Stage(TrainConfig):
    """A named training recipe, such as ``midtrain`` or ``aft``.

    It is trained for each of the campaign's seeds, or ``once``, with its own ``seed``, and then shared by all of them.
    """

    once: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed and not self.once:
            raise UserError(f"seed is {self.seed}, but this stage is run once for each of campaign.seeds: set those")


@dataclass(frozen=True, kw_only=True)
class Link(Strict):
    """One stage of a chain, and the sources that its rows are mixed from."""

    stage: str
    sources: tuple[str, ...]

    def __post_init__(self) -> None:
        refuse_empty(self.stage, self.sources)
        refuse_twice(self.stage, self.sources)


def _link(value: Any) -> Any:
    """``{aft: [instruction, chats]}`` as the fields of a :class:`Link`."""
    if isinstance(value, Mapping) and set(value) == {"stage", "sources"}:
        return value
    if not isinstance(value, Mapping) or len(value) != 1:
        raise UserError(f"{value!r} is no link of an arm: write a stage and its sources, such as {{aft: [chats]}}")
    ((stage, sources),) = value.items()
    return {"stage": stage, "sources": sources}


Chain = tuple[Annotated[Link, BeforeValidator(_link)], ...]
