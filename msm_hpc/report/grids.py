"""Two arms against each other, spec by spec and eval by eval: the comparisons that make a table of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from msm_hpc.report.metrics import PREFERENCE, Metric
from msm_hpc.report.results import Comparison, Results

LISTED = 12
"""So many comparisons are read one after another; of more, grids are shown, and the list is folded."""


@dataclass(frozen=True)
class Grid:
    """The comparisons of ``arm`` with ``other_arm``: a row for each spec, in it one of each metric or None."""

    model: str
    size: int | None
    arm: str
    other_arm: str
    metrics: tuple[Metric, ...]
    rows: tuple[tuple[str, tuple[Comparison | None, ...]], ...]


def grids(results: Results) -> list[Grid]:
    """Of more than :data:`LISTED`, all that compare two arms under two specs or more, by two evals or more."""
    if len(results.compared) <= LISTED:
        return []
    order = tuple(dict.fromkeys(condition.spec for condition in results.conditions if condition.spec))
    by_arms: dict[tuple[str, int | None, str, str], dict[tuple[str, Metric], Comparison]] = {}
    for each in results.compared:
        if each.spec and each.other_spec in (each.spec, None) and each.arm != each.other_arm:
            key = (each.model, each.size, each.arm, each.other_arm)
            by_arms.setdefault(key, {})[each.spec, (each.eval, each.metric)] = each
    made = []
    for key, cells in by_arms.items():
        specs = [spec for spec in order if spec in {spec for spec, _ in cells}]
        metrics = tuple(sorted(dict.fromkeys(metric for _, metric in cells), key=partial(_own_first, specs)))
        if len(specs) > 1 and len(metrics) > 1:
            rows = tuple((spec, tuple(cells.get((spec, metric)) for metric in metrics)) for spec in specs)
            made.append(Grid(*key, metrics, rows))
    return made


def _own_first(specs: Sequence[str], metric: Metric) -> int:
    """In the order of the specs that evals are about, so that these make a diagonal; others after them."""
    value = metric[0].removeprefix(PREFERENCE)
    return specs.index(value) if value in specs else len(specs)


def of_own_value(each: Comparison) -> bool:
    """Whether it is about the preference that its spec is named after."""
    return each.eval == f"{PREFERENCE}{each.spec}"
