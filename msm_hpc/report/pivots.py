"""Arms down and specs across: what every model does by one eval, where many arms are trained under many specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msm_hpc.report.results import Results
from msm_hpc.report.sections import EvalRow, Section

LISTED = 24
"""So many conditions are read one after another; of more, pivots are shown, and the list is folded."""


@dataclass(frozen=True)
class Pivot:
    """The first metric of an eval of one model: a row for each arm and size, in it one of each spec, or of none."""

    eval: str
    metric: str
    model: str
    specs: tuple[str | None, ...]
    rows: tuple[tuple[EvalRow, tuple[EvalRow | None, ...]], ...]


def pivots(results: Results, sections: Sequence[Section]) -> list[Pivot]:
    """Of more than :data:`LISTED` conditions, one for each eval and model with three columns or more."""
    if len(results.conditions) <= LISTED:
        return []
    order = dict.fromkeys(condition.spec for condition in results.conditions)
    specs = sorted(order, key=lambda spec: spec is not None)
    made = []
    for section in sections:
        for model in dict.fromkeys(row.condition.model for row in section.rows):
            of_model = [row for row in section.rows if row.condition.model == model]
            there = tuple(spec for spec in specs if spec in {row.condition.spec for row in of_model})
            if section.metrics and not section.families and len(there) > 2:
                made.append(Pivot(section.eval, section.metrics[0], model, there, _rows(of_model, there)))
    return made


def _rows(
    found: Sequence[EvalRow], specs: Sequence[str | None]
) -> tuple[tuple[EvalRow, tuple[EvalRow | None, ...]], ...]:
    """Each arm and size with what it does under each spec; the first stands for its name."""
    by_arm: dict[tuple[str, int | None], dict[str | None, EvalRow]] = {}
    for row in found:
        by_arm.setdefault((row.condition.arm, row.condition.size), {})[row.condition.spec] = row
    return tuple((next(iter(of.values())), tuple(map(of.get, specs))) for of in by_arm.values())
