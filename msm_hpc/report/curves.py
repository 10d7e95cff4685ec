"""Curves over amounts of data: what each arm reaches on its ladder, and how much of it later training leaves.

Both are drawn over the logarithm of the amount, a line for each arm and spec, one eval at a time by its first metric.
On a curve of persistence the arm before any later training stands at 0, one step left of the smallest amount.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.report.axes import RATES, Axis, axis
from msm_hpc.report.metrics import headlines
from msm_hpc.report.results import Measurement, Results

Line = tuple[str, str, str | None]
"""Model, arm and spec."""
Sized = Mapping[int, Measurement]


@dataclass(frozen=True)
class Point:
    """One condition: where it stands from left (0) to right (1), its amount of data, and what was measured."""

    x: float
    size: int
    row: Measurement


@dataclass(frozen=True)
class Curve:
    """One arm on one spec; ``arm_number`` tells apart those of one spec, which have one colour."""

    model: str
    arm: str
    spec: str | None
    arm_number: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """The curves of one eval; ``sizes`` are those of all, with where they stand."""

    eval: str
    metric: str
    y: Axis
    sizes: tuple[tuple[float, int], ...]
    curves: tuple[Curve, ...]


def ladder_charts(results: Results) -> list[Chart]:
    """A chart for each eval, with the arms that have several sizes, but for those of later training."""
    found = []
    for rows in _by_eval(results):
        lines: dict[Line, dict[int, Measurement]] = {}
        for row in rows:
            if row.size and row.arm not in results.persistence:
                lines.setdefault((row.model, row.arm, row.spec), {})[row.size] = row
        found += _chart(rows[0], lines)
    return found


def persistence_charts(results: Results) -> list[Chart]:
    """A chart for each eval, with the arms that end with later training, and before any of it."""
    found = []
    for rows in _by_eval(results):
        lines: dict[Line, dict[int, Measurement]] = {}
        for row in rows:
            for later, before in results.persistence.items():
                if row.arm in (later, before):
                    size = (row.size or 0) if row.arm == later else 0
                    lines.setdefault((row.model, before, row.spec), {})[size] = row
        found += _chart(rows[0], lines)
    return found


def _by_eval(results: Results) -> list[list[Measurement]]:
    """The rows of the first metric of each eval that can be drawn, all groups together."""
    first = headlines((row.eval, row.metric) for row in results.measured)
    by_eval: dict[str, list[Measurement]] = {}
    for row in results.measured:
        if first.get(row.eval) == row.metric and row.group is None and row.mean is not None:
            by_eval.setdefault(row.eval, []).append(row)
    return [*by_eval.values()]


def _chart(first: Measurement, lines: Mapping[Line, Sized]) -> list[Chart]:
    """The chart of the lines that have several points, if there are any."""
    drawn = {line: found for line, found in lines.items() if len(found) > 1}
    if not drawn:
        return []
    sizes = sorted({size for found in drawn.values() for size in found})
    places = _places(sizes)
    arms = [*dict.fromkeys(arm for _, arm, _ in drawn)]
    curves = tuple(
        Curve(*line, arms.index(line[1]), tuple(Point(places[size], size, found[size]) for size in sorted(found)))
        for line, found in drawn.items()
    )
    ends = [end for found in drawn.values() for row in found.values() for end in (row.low, row.mean, row.high)]
    numbers = [end for end in ends if end is not None]
    y = Axis(RATES) if first.rate else axis(numbers, start=min(numbers))
    return [Chart(first.eval, first.metric, y, tuple((places[size], size) for size in sizes), curves)]


def _places(sizes: Sequence[int]) -> dict[int, float]:
    """Where sizes stand on a logarithmic axis; 0 one step of the smallest two left of them."""
    above = [size for size in sizes if size]
    logs = {size: math.log(size) for size in above}
    if 0 in sizes:
        step = (logs[above[-1]] - logs[above[0]]) / (len(above) - 1) if len(above) > 1 else 1.0
        logs[0] = logs[above[0]] - step
    low, high = min(logs.values()), max(logs.values())
    return {size: (logs[size] - low) / (high - low) for size in sizes}
