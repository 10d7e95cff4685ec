"""Heat maps: one eval's metric in each of its groups, for each condition, with how strongly a cell is tinted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from msm_hpc.report.metrics import family, member, named, of_family, sentence
from msm_hpc.report.results import Condition, Measurement, Results, side

MOST_GROUPS = 40
MOST_TINT = 0.55
"""Text stays readable on it."""


@dataclass(frozen=True)
class HeatCell:
    """A measurement and its tint, from 0 to :data:`MOST_TINT`; neither where there is none."""

    row: Measurement | None
    tint: float


@dataclass(frozen=True)
class HeatMap:
    """Rows of cells below the groups of an eval; ``families`` are what groups have before a slash, with how many."""

    eval: str
    metric: str
    families: tuple[tuple[str, int], ...]
    groups: tuple[str, ...]
    rows: tuple[tuple[Condition, tuple[HeatCell, ...]], ...]

    @property
    def title(self) -> str:
        """The metric, and the family where it is a map of one."""
        names = [self.metric, *(name for name, _ in self.families if len(self.families) == 1)]
        return sentence(", ".join(map(named, names)))


def heat_maps(results: Results, rows: Sequence[Measurement]) -> list[HeatMap]:
    """The map of ``rows``, which are all of one eval and metric; of very many groups one for each family.

    There is none of a single group.
    """
    inner = {family(row.group) for row in rows if row.group and of_family(row.group)}
    groups = sorted({row.group for row in rows if row.group} - inner, key=_in_order)
    if len(groups) < 2:
        return []
    parts = [[*of] for _, of in groupby(groups, family)] if len(groups) > MOST_GROUPS and inner else [groups]
    return [_heat_map(results, rows, part) for part in parts]


def _heat_map(results: Results, rows: Sequence[Measurement], groups: Sequence[str]) -> HeatMap:
    found = {(side(row), row.group): row for row in rows if row.group in {*groups}}
    low, high = _ends([*found.values()])
    drawn = []
    for each in results.conditions:
        cells = [found.get((side(each), group)) for group in groups]
        drawn.append((each, tuple(HeatCell(row, _tint(row, low, high)) for row in cells)))
    heads = tuple((name, len([*of])) for name, of in groupby(groups, family)) if of_family(groups[0]) else ()
    return HeatMap(rows[0].eval, rows[0].metric, heads, tuple(groups), tuple(drawn))


def _in_order(group: str) -> tuple[str, bool, int, str]:
    """By family; in it ``none`` first, numbers by size, and names by the alphabet."""
    name = member(group)
    return (family(group), name != "none", int(name) if name.isdigit() else 0, name)


def _ends(rows: Sequence[Measurement]) -> tuple[float, float]:
    """What has no tint, and what has the strongest."""
    if rows[0].rate:
        return 0.0, 1.0
    means = [row.mean for row in rows if row.mean is not None]
    return (min(means), max(means)) if means else (0.0, 1.0)


def _tint(row: Measurement | None, low: float, high: float) -> float:
    if row is None or row.mean is None or high == low:
        return 0.0
    return MOST_TINT * (row.mean - low) / (high - low)
