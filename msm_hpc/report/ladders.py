"""From scores to the ladders that conditions make, and how much less data one arm needs than another.

Within a seed, all rungs of both ladders are compared on the items that every one of their models has a value for. From
two training seeds on there is a curve a seed; of one seed there is one for each group of the eval, or each item where
there is a single group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.report.efficiency import Ladder, Saved, savings
from msm_hpc.report.items import Items, on_equal_items
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
    by_seed = []
    for seed in sorted(_whole(climbed) & _whole(compared)):
        equal = on_equal_items(ladder[size][seed] for ladder in (climbed, compared) for size in sorted(ladder))
        if equal[0].keys:
            by_seed.append(equal)
    if not by_seed or min(len(climbed), len(compared)) < 2:
        return None
    over: Over = "seeds" if len(by_seed) > 1 else by_seed[0][0].unit
    rows = [_means(models) for models in by_seed] if over == "seeds" else [*_by_unit(by_seed[0])]
    higher = [[sign * value for value in row] for row in rows]
    of_arm, of_reference = (row[: len(climbed)] for row in higher), (row[len(climbed) :] for row in higher)
    return _Curves(_ladder(climbed, of_arm), _ladder(compared, of_reference), len(by_seed), over)


def _means(models: Sequence[Items]) -> Sequence[float]:
    return [float(items.means.mean()) for items in models]


def _by_unit(models: Sequence[Items]) -> Iterator[Sequence[float]]:
    """For each group, or item, a value of every model; their mean and its interval are those of the model."""
    return zip(*(pseudo_values(items.clusters(items.means)) for items in models), strict=True)


def _whole(ladder: Rungs) -> set[int]:
    """The seeds that are on every rung."""
    return set.intersection(*(set(seeds) for seeds in ladder.values())) if ladder else set()


def _ladder(rungs: Rungs, rows: Iterable[Sequence[float]]) -> Ladder:
    return Ladder(tuple(sorted(rungs)), tuple(map(tuple, rows)))
