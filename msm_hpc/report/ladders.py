"""From scores to the ladders that conditions make, and how much less data one arm needs than another.

From two training seeds on there is a curve a seed. Of one seed there is one for each group of the eval in which all
rungs have values, or each such item where there is a single group; their mean is what the models reached.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from msm_hpc.report.efficiency import Ladder, Saved, savings
from msm_hpc.report.items import Items
from msm_hpc.report.measurements import ModelScores
from msm_hpc.report.metrics import PREFERENCE, Metric, better, headlines
from msm_hpc.report.statistics import Over, pseudo_values

Rungs = Mapping[int, Mapping[int, Items]]
"""Size to seed to what the model scored."""


def saved(of: Mapping[str, str], models: Sequence[ModelScores]) -> Iterator[Saved]:
    """How much less data each arm needs than the one that it is compared with, for each spec, by the first metric of
    each eval in which a model can be better.

    Of preferences, a spec whose name is a value's is compared by that value only.
    """
    metrics = headlines(key for model in models for key in model.scored).items()
    reached = {metric: _reached(models, metric) for metric in metrics if better(metric[1])}
    for arm, reference in of.items():
        for model, spec in dict.fromkeys((each.cell.model, each.cell.spec) for each in models if each.cell.arm == arm):
            for (name, metric), ladders in reached.items():
                if _of_another_value(name, spec, reached):
                    continue
                climbed = ladders.get((model, arm, spec), {})
                compared = ladders.get((model, reference, spec)) or ladders.get((model, reference, None), {})
                if curves := _curves(climbed, compared, better(metric)):
                    found = savings(curves.arm, curves.reference)
                    value = name.removeprefix(PREFERENCE)
                    yield Saved(value, model, arm, spec, reference, curves.seeds, curves.over, found)


def _reached(models: Sequence[ModelScores], metric: Metric) -> dict[tuple[str, str, str | None], Rungs]:
    """Model, arm and spec to its ladder."""
    found: dict[tuple[str, str, str | None], dict[int, dict[int, Items]]] = {}
    for cell, scored in ((each.cell, each.scored) for each in models):
        if cell.size and metric in scored and scored[metric].n.any():
            ladder = found.setdefault((cell.model, cell.arm, cell.spec), {})
            ladder.setdefault(cell.size, {})[cell.seed] = scored[metric]
    return {**found}


def _of_another_value(name: str, spec: str | None, metrics: Collection[Metric]) -> bool:
    return (
        name.startswith(PREFERENCE) and name != f"{PREFERENCE}{spec}" and (f"{PREFERENCE}{spec}", "log_odds") in metrics
    )


@dataclass(frozen=True)
class _Curves:
    """Two ladders of equal units, which are ``seeds`` training seeds, or parts of the eval."""

    arm: Ladder
    reference: Ladder
    seeds: int
    over: Over


def _curves(climbed: Rungs, compared: Rungs, sign: int) -> _Curves | None:
    """Curves on which higher is better; None where either is no ladder, or no seed is whole on both."""
    seeds = sorted(_whole(climbed) & _whole(compared))
    if not seeds or min(len(climbed), len(compared)) < 2:
        return None
    rungs = [ladder[size] for ladder in (climbed, compared) for size in sorted(ladder)]
    over: Over = "seeds" if len(seeds) > 1 else rungs[0][seeds[0]].unit
    by_rung = [[rung[seed].mean for seed in seeds] for rung in rungs]
    if over != "seeds":
        by_rung = [*_by_unit([rung[seeds[0]] for rung in rungs])]
    curves = [*zip(*([sign * value for value in rung] for rung in by_rung), strict=True)]
    of_arm, of_reference = (curve[: len(climbed)] for curve in curves), (curve[len(climbed) :] for curve in curves)
    return _Curves(_ladder(climbed, of_arm), _ladder(compared, of_reference), len(seeds), over)


def _by_unit(models: Sequence[Items]) -> Iterator[list[float]]:
    """Of each model a value for each unit that all have; the mean alone where these are fewer than two."""
    parts = [items.by_unit for items in models]
    both = [unit for unit in parts[0] if all(unit in of for of in parts)]
    for items, of in zip(models, parts, strict=True):
        if len(both) < 2:
            yield [items.mean]
        else:
            values = pseudo_values([of[unit] for unit in both])
            yield [value + items.mean - fmean(values) for value in values]


def _whole(ladder: Rungs) -> set[int]:
    """The seeds that are on every rung."""
    return set.intersection(*(set(seeds) for seeds in ladder.values())) if ladder else set()


def _ladder(rungs: Rungs, rows: Iterable[Sequence[float]]) -> Ladder:
    return Ladder(tuple(sorted(rungs)), tuple(map(tuple, rows)))
