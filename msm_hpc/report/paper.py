"""The numbers of the paper, beside ours where model, arm, spec and eval are called the same; never among ours.

They stand in ``paper.yaml``, with the figure of each: what the authors printed, not what was measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from msm_hpc.base.yaml_files import load_yaml
from msm_hpc.report.efficiency import Saved

SOURCE = "arXiv 2605.02087 v2"
NOTE = f"Numbers marked as the paper's are those that it printed ({SOURCE}), of its own models."
_FILE = Path(__file__).with_name("paper.yaml")


@dataclass(frozen=True)
class PaperNumber:
    """One number of the paper.

    Attributes:
        where: in which figure, and of which model where that is not the one that has its name here.
        over: the arm that it is the difference to; None of a number by itself.
    """

    value: float
    where: str
    over: str | None = None

    def __str__(self) -> str:
        return f"{self.value:.2f}" if self.over is None else f"{self.value:+.2f} over {self.over}"


@dataclass(frozen=True)
class _Figure:
    """The part of a figure for one model, spec, eval and metric: by arm, some as differences to the arm ``over``."""

    figure: str
    model: str
    spec: str | None
    eval: str
    metric: str
    arms: Mapping[str, float]
    over: str | None = None


@dataclass(frozen=True)
class _Factor:
    """How many times less data arms need than those that they are compared with (``arms``), roughly."""

    figure: str
    model: str
    spec: str
    eval: str
    factor: float
    arms: Mapping[str, str]


@dataclass(frozen=True)
class _Paper:
    """``paper.yaml``; ``starts`` is where the paper's models start, if not where ours of that name do."""

    starts: Mapping[str, str]
    savings: list[_Factor]
    numbers: list[_Figure]


Key = tuple[str, str, str | None, str, str]
"""Model, arm, spec, eval and metric."""


@cache
def _paper() -> _Paper:
    return TypeAdapter(_Paper).validate_python(load_yaml(_FILE))


@cache
def paper_numbers() -> Mapping[Key, tuple[PaperNumber, ...]]:
    """All numbers of ``paper.yaml``; a model that two figures show has a number from each."""
    paper = _paper()
    found: dict[Key, tuple[PaperNumber, ...]] = {}
    for each in paper.numbers:
        where = "; ".join(filter(None, (each.figure, paper.starts.get(each.model))))
        for arm, value in each.arms.items():
            key = (each.model, arm, each.spec, each.eval, each.metric)
            found[key] = (*found.get(key, ()), PaperNumber(value, where, each.over))
    return found


def in_paper(model: str, arm: str, spec: str | None, name: str, metric: str) -> tuple[PaperNumber, ...]:
    """What the paper has for it; where there is nothing for the spec, what it has for all of them."""
    numbers = paper_numbers()
    return numbers.get((model, arm, spec, name, metric)) or numbers.get((model, arm, None, name, metric), ())


def savings_in_paper(saved: Iterable[Saved]) -> list[str]:
    """What the paper says of the data that was saved, of what there is in ``saved``: a sentence each."""
    return [
        f"The paper ({SOURCE}, {each.figure}), on one seed and at a level that it does not give: {one.arm} "
        f"of {one.model} needs around {each.factor:.0f} times less data than {one.reference}."
        for one in saved
        for each in _paper().savings
        if (each.model, each.spec, each.eval) == (one.model, one.spec, one.value)
        and each.arms.get(one.arm) == one.reference
    ]
