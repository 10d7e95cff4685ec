"""The numbers of the paper, beside ours where model, arm, spec and eval are called the same; never among ours.

They stand in ``paper.yaml``, with the figure of each: what the authors printed, not what was measured here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from pydantic import TypeAdapter

SOURCE = "arXiv 2605.02087 v2"
_FILE = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class PaperNumber:
    """One number of the paper, and where it stands in it."""

    value: float
    figure: str


@dataclass(frozen=True)
class _Figure:
    """The part of a figure for one model, spec, eval and metric: by arm."""

    figure: str
    model: str
    spec: str | None
    eval: str
    metric: str
    arms: Mapping[str, float]


Key = tuple[str, str, str | None, str, str]
"""Model, arm, spec, eval and metric."""


@cache
def paper_numbers() -> Mapping[Key, tuple[PaperNumber, ...]]:
    """All numbers of ``paper.yaml``; a model that two figures show has a number from each."""
    figures = TypeAdapter(list[_Figure]).validate_python(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
    found: dict[Key, tuple[PaperNumber, ...]] = {}
    for each in figures:
        for arm, value in each.arms.items():
            key = (each.model, arm, each.spec, each.eval, each.metric)
            found[key] = (*found.get(key, ()), PaperNumber(value, each.figure))
    return found


def in_paper(model: str, arm: str, spec: str | None, name: str, metric: str) -> tuple[PaperNumber, ...]:
    """What the paper has for it; where there is nothing for the spec, what it has for all of them."""
    numbers = paper_numbers()
    return numbers.get((model, arm, spec, name, metric)) or numbers.get((model, arm, None, name, metric), ())
