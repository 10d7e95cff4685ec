"""Tests between arms, and between specs, on the items that both models were asked.

Two models are compared on equal items: the difference of their means on each item that both have a value for, every
item counting the same, so that an answer missing on one side cannot move it. With two training seeds or more there is
one such difference a seed, and the test and interval are over seeds; with one, they are over the groups of the eval, or
the items where there is a single group. All p values of a report are adjusted together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Literal

from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.items import Floats, Items
from msm_hpc.report.measurements import ModelScores, again, rates_of
from msm_hpc.report.metrics import PREFERENCE, Metric, headlines
from msm_hpc.report.results import Comparison, Side, side
from msm_hpc.report.rules import FLOOR
from msm_hpc.report.statistics import Cluster, Over, holm, mean_interval, p_value


def compare(config: ReportConfig, models: Sequence[ModelScores]) -> tuple[Comparison, ...]:
    """Every two specs of the arms of ``config.contrasts``, and each arm of ``config.compare`` with its references.

    By the first metric of each eval; preferences of two specs are compared elsewhere (:class:`.Contrast`).
    """
    found = _Found(config.cells, models)
    pairs = [*_between_specs(config, found), *_between_arms(config, found)]
    made = [
        comparison
        for metric in found.headlines.items()
        for first, second, arms in pairs
        if arms or not metric[0].startswith(PREFERENCE)
        for comparison in _comparison(metric, first, second, found)
    ]
    adjusted = holm([each.p for each in made])
    return tuple(replace(each, holm=p) for each, p in zip(made, adjusted, strict=True))


class _Found:
    """The models by condition and seed, with what is known of them."""

    def __init__(self, cells: Sequence[Cell], models: Sequence[ModelScores]) -> None:
        self.listed: dict[Side, list[int]] = {}
        for cell in cells:
            self.listed.setdefault(side(cell), []).append(cell.seed)
        self.models = {(side(model.cell), model.cell.seed): model for model in models}
        self.rates = rates_of(models)
        self.headlines = headlines(key for model in models for key in model.scored)

    def items(self, metric: Metric, of: Side, seed: int) -> Items | None:
        """What the model of ``seed`` scored, or the only one where the condition has one for all seeds."""
        seeds = self.listed[of]
        model = self.models.get((of, seeds[0] if len(seeds) == 1 else seed))
        return model.scored.get(metric) if model else None

    def seeds(self, first: Side, second: Side) -> list[int]:
        """Those that both have, or that the one has that is not the same for all."""
        of_first, of_second = self.listed[first], self.listed[second]
        if 1 in (len(of_first), len(of_second)):
            return max(of_first, of_second, key=len)
        return sorted({*of_first} & {*of_second})


def _between_specs(config: ReportConfig, found: _Found) -> Iterator[tuple[Side, Side, bool]]:
    of_arms = [each for each in found.listed if each[1] in config.contrasts]
    for first, second in combinations(of_arms, 2):
        if (first[0], first[1], first[3]) == (second[0], second[1], second[3]):
            yield first, second, False


def _between_arms(config: ReportConfig, found: _Found) -> Iterator[tuple[Side, Side, bool]]:
    """Each condition of an arm with that of a reference that has the same spec and size, or else none."""
    for arm, reference in [(arm, each) for arm, others in config.compare.items() for each in others]:
        for first in found.listed:
            model, name, spec, size = first
            others = ((model, reference, of, rung) for of in (spec, None) for rung in (size, None))
            if name == arm and (other := next((each for each in others if each in found.listed), None)):
                yield first, other, True


@dataclass(frozen=True)
class _Paired:
    """Two models on the items that both have a value for, and ``models``, all that either was asked."""

    first: Items
    second: Items
    models: tuple[Items, Items]

    @property
    def moved(self) -> Floats:
        """The difference on each item."""
        return self.first.total / self.first.n - self.second.total / self.second.n

    def clusters(self) -> tuple[list[Cluster], Over]:
        """The differences by group, or by item where there is a single group."""
        moved = self.moved.tolist()
        if len(self.first.groups) == 1:
            return [Cluster(each, 1) for each in moved], "items"
        of_groups = (moved[of] for of in self.first.groups.values())
        return [Cluster(sum(group), len(group)) for group in of_groups], "groups"


def _paired(first: Items, second: Items) -> _Paired | None:
    one, other = first.with_values(), second.with_values()
    if one.keys != other.keys:
        there = {*other.keys}
        both = [key for key in one.keys if key in there]
        one, other = one.only(both), other.only(both)
    return _Paired(one, other, (first, second)) if one.keys else None


def _comparison(metric: Metric, first: Side, second: Side, found: _Found) -> Iterator[Comparison]:
    """One comparison; none where no seed has both models."""
    by_seed: dict[int, _Paired] = {}
    for seed in found.seeds(first, second):
        one, other = found.items(metric, first, seed), found.items(metric, second, seed)
        if one is not None and other is not None and (paired := _paired(one, other)):
            by_seed[seed] = paired
    if not by_seed:
        return
    differences = [float(paired.moved.mean()) for paired in by_seed.values()]
    clusters, over = _units(differences, next(iter(by_seed.values())))
    interval = mean_interval(clusters)
    bounds = (-1.0, 1.0) if metric in found.rates else (-math.inf, math.inf)
    interval = interval and interval.within(*bounds)
    yield Comparison(
        eval=metric[0],
        metric=metric[1],
        model=first[0],
        size=first[3],
        arm=first[1],
        spec=first[2],
        other_arm=second[1],
        other_spec=second[2],
        seeds=tuple(by_seed),
        by_seed=tuple(differences),
        difference=fmean(differences),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        over=over if interval else "",
        p=p_value(clusters),
        holm=None,
        again=_noise([*by_seed.values()]),
        saturated=_saturated([*by_seed.values()]) if metric in found.rates else "",
    )


def _units(differences: Sequence[float], only: _Paired) -> tuple[list[Cluster], Over]:
    """What the test is over: the difference of each seed; of one seed those of groups, or items."""
    if len(differences) > 1:
        return [Cluster(difference, 1) for difference in differences], "seeds"
    return only.clusters()


def _noise(pairs: Sequence[_Paired]) -> float | None:
    """The standard error of the difference if all were asked again; a model that stands for all seeds counts once."""
    sides: list[float] = []
    for models in zip(*(pair.models for pair in pairs), strict=True):
        moves = [again(items) for items in {id(items): items for items in models}.values()]
        there = [move for move in moves if move is not None]
        if len(there) < len(moves):
            return None
        sides.append(math.hypot(*there) / len(there))
    return math.hypot(*sides)


def _saturated(pairs: Sequence[_Paired]) -> Literal["", "floor", "ceiling"]:
    means = [
        fmean(float((each.total / each.n).mean()) for each in items)
        for items in zip(*((pair.first, pair.second) for pair in pairs), strict=True)
    ]
    return "floor" if max(means) <= FLOOR else "ceiling" if min(means) >= 1 - FLOOR else ""
