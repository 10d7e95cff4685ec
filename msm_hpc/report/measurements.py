"""Measurements: one row for each model, eval, metric and group, with its interval and what is missing of it.

The interval is over the largest unit of which there are several, as other ones of that unit could have come out
differently: training seeds, where all seeds stand together; of one model the groups of an eval, then the items of a
group, then the samples of an item. For rates it is Wilson's, of the effective number of independent answers where
units differ beyond chance; for numbers, and over seeds, Student's (:mod:`msm_hpc.report.statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev

import numpy as np

from msm_hpc.config.stages import Cell
from msm_hpc.report.items import Items, Scored
from msm_hpc.report.metrics import SHUFFLED, Metric
from msm_hpc.report.results import Measurement, side
from msm_hpc.report.rules import NEVER_ASKED
from msm_hpc.report.statistics import (
    Cluster,
    Interval,
    Over,
    Z,
    effective_size,
    mean_interval,
    seed_interval,
    student_quantile,
    wilson,
)


@dataclass(frozen=True)
class ModelScores:
    """What one model scored, and the step that measured each eval."""

    cell: Cell
    scored: Scored
    steps: Mapping[str, str]


def measure(models: Sequence[ModelScores]) -> list[Measurement]:
    """The rows of each model, in their order; nothing of an eval that is missing."""
    rates = rates_of(models)
    rows = [row for model in models for row in _of_model(model, rates)]
    most: dict[tuple[str, str, str | None], int] = {}
    for row in rows:
        key = (row.eval, row.metric, row.group)
        most[key] = max(most.get(key, 0), row.asked)
    return [_completed(row, most[row.eval, row.metric, row.group]) for row in rows]


def pool(rows: Sequence[Measurement]) -> list[Measurement]:
    """The seeds of each model together."""
    together: dict[tuple[object, ...], list[Measurement]] = {}
    for row in rows:
        together.setdefault((side(row), row.eval, row.metric, row.group), []).append(row)
    return [_pooled(seeds) for seeds in together.values()]


def rates_of(models: Sequence[ModelScores]) -> frozenset[Metric]:
    """The metrics whose values are truths in all models."""
    keys = {key for model in models for key in model.scored}
    return frozenset(key for key in keys if all(model.scored[key].truths for model in models if key in model.scored))


def _of_model(model: ModelScores, rates: frozenset[Metric]) -> Iterator[Measurement]:
    cell = model.cell
    for (name, metric), items in model.scored.items():
        for group, part in _parts(items):
            rate, n, total = (name, metric) in rates, int(part.n.sum()), float(part.total.sum())
            missing = part.why_missing()
            interval, over = _interval(part, rate, metric) if n else (None, "")
            yield Measurement(
                model=cell.model,
                arm=cell.arm,
                spec=cell.spec,
                size=cell.size,
                seed=cell.seed,
                seeds=1,
                eval=name,
                metric=metric,
                group=group,
                rate=rate,
                n=n,
                asked=n + sum(missing.values()),
                missing=missing,
                total=total,
                mean=total / n if n else None,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                over=over,
                again=again(part),
                steps=(model.steps[name],),
            )


def _parts(items: Items) -> Iterator[tuple[str | None, Items]]:
    """All items, those of each family of groups, where there are several, and those of each group."""
    yield None, items
    if 1 < len(items.families) < len(items.groups):
        yield from ((name, items.part(of)) for name, of in items.families.items())
    yield from ((name, items.part(of)) for name, of in items.groups.items())


def _interval(items: Items, rate: bool, metric: str) -> tuple[Interval | None, Over]:
    """The interval of the mean over the largest unit of which there are several; of shuffles, where they lie."""
    there = items.with_values()
    if metric == SHUFFLED:
        return _of_shuffles(there), "shuffles"
    if len(there.groups) > 1:
        return _over([Cluster(*sums) for sums in there.sums(there.groups.values())], rate), "groups"
    n, total = there.n.tolist(), there.total.tolist()
    if len(n) == 1:
        return _over_samples(there, rate), "samples"
    if rate and max(n) == 1:
        return wilson(sum(total) / len(n), len(n)), "items"
    return _over([Cluster(*sums) for sums in zip(total, map(int, n), strict=True)], rate), "items"


def _of_shuffles(items: Items) -> Interval:
    """Where 95 of 100 shuffles lie, by their standard deviation; one flips the labels of all groups alike."""
    of_shuffle: dict[str, list[float]] = {}
    for (_, shuffle), value in zip(items.keys, items.total.tolist(), strict=True):
        of_shuffle.setdefault(shuffle, []).append(value)
    means = [fmean(values) for values in of_shuffle.values()]
    half = Z * pstdev(means)
    return Interval(fmean(means) - half, fmean(means) + half)


def _over(clusters: Sequence[Cluster], rate: bool) -> Interval | None:
    if not rate:
        return mean_interval(clusters)
    n = sum(cluster.n for cluster in clusters)
    return wilson(sum(cluster.total for cluster in clusters) / n, effective_size(clusters, n))


def _over_samples(items: Items, rate: bool) -> Interval | None:
    n, total = float(items.n.sum()), float(items.total.sum())
    if rate:
        return wilson(total / n, n)
    if (error := again(items)) is None:
        return None
    half = student_quantile(int(n) - 1) * error
    return Interval(total / n - half, total / n + half)


def again(items: Items) -> float | None:
    """The standard error of the mean if the same model were asked the same items again.

    It is what differs between the samples of an item; None where an item has a single one.
    """
    there = items.with_values()
    if not len(there.n) or there.n.min() < 2:
        return None
    variance = np.maximum(there.squares - there.total**2 / there.n, 0.0) / (there.n - 1)
    return math.sqrt(float((there.n * variance).sum())) / float(there.n.sum())


def _completed(row: Measurement, asked: int) -> Measurement:
    """With what other models were asked, and this one was not, among the missing."""
    if row.asked == asked:
        return row
    return replace(row, asked=asked, missing={**row.missing, NEVER_ASKED: asked - row.asked})


def _pooled(rows: Sequence[Measurement]) -> Measurement:
    means = [row.mean for row in rows if row.mean is not None]
    first = next((row for row in rows if row.mean is not None), rows[0])
    interval = seed_interval(means, 0.0, 1.0) if first.rate else seed_interval(means)
    if first.over == "shuffles":  # another seed draws no other shuffles
        interval = None
    reasons = sorted({reason for row in rows for reason in row.missing})
    moves = [row.again for row in rows if row.again is not None]
    return replace(
        first,
        seed=None,
        seeds=len(means),
        n=sum(row.n for row in rows),
        asked=sum(row.asked for row in rows),
        missing={reason: sum(row.missing.get(reason, 0) for row in rows) for reason in reasons},
        total=sum(row.total for row in rows),
        mean=fmean(means) if means else None,
        low=interval.low if interval else first.low,
        high=interval.high if interval else first.high,
        over="seeds" if interval else first.over,
        again=math.hypot(*moves) / len(moves) if moves and len(moves) == len(means) else None,
        steps=tuple(dict.fromkeys(step for row in rows for step in row.steps)),
    )
