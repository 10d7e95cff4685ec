"""Curves: over amounts of data, on ladders and after later training; and over a model's layers.

Those over data are drawn over the logarithm of the amount, a line for each arm and spec, one eval at a time by its
first metric. On a curve of persistence the arm before any later training stands at 0, one step left of the smallest
amount. Over layers stands how far training moved each arm toward the spec, with where it would lie by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from msm_hpc.report.axes import RATES, Axis, axis
from msm_hpc.report.metrics import MOVED, SHUFFLED, family, headlines, member
from msm_hpc.report.results import Measurement, Results

Line = tuple[str, str, str | None]
"""Model, arm and spec."""
Sized = Mapping[int, Measurement]
MOST_NAMED = 12
"""Sizes below a chart: more are not to be read."""


@dataclass(frozen=True)
class Point:
    """Where it stands from left (0) to right (1), what that is called, and what was measured there."""

    x: float
    label: str
    row: Measurement


@dataclass(frozen=True)
class Curve:
    """One arm on one spec; ``arm_number``, alike in all charts, separates those of one spec, of one colour."""

    arm: str
    spec: str | None
    arm_number: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Chart:
    """The curves of one model by one eval; ``labels`` are those that stand below it, with where.

    ``model`` is empty where the curves are over models.
    """

    model: str
    eval: str
    metric: str
    y: Axis
    labels: tuple[tuple[float, str], ...]
    curves: tuple[Curve, ...]


def ladder_charts(results: Results) -> list[Chart]:
    """A chart for each eval and model, with the arms that have several sizes, but for those of later training."""
    evals = []
    for rows in _by_eval(results):
        lines: dict[Line, dict[int, Measurement]] = {}
        for row in rows:
            if row.size and row.arm not in results.persistence:
                lines.setdefault((row.model, row.arm, row.spec), {})[row.size] = row
        evals.append((rows[0], lines))
    return charts(evals)


def persistence_charts(results: Results) -> list[Chart]:
    """A chart for each eval and model, with the arms that end with later training, each from the one without it on."""
    evals = []
    for rows in _by_eval(results):
        lines: dict[Line, dict[int, Measurement]] = {}
        for row in rows:
            for later, before in results.persistence.items():
                if row.arm in (later, before):
                    size = (row.size or 0) if row.arm == later else 0
                    lines.setdefault((row.model, later, row.spec), {})[size] = row
        evals.append((rows[0], lines))
    return charts(evals)


def layer_charts(results: Results) -> list[Chart]:
    """A chart for each eval, value and model of what was moved in each layer; a bar ends where the shuffles do."""
    lines: dict[tuple[str, str], dict[Line, dict[int, Measurement]]] = {}
    shuffles: dict[tuple[object, ...], Measurement] = {}
    for row in results.measured:
        value, layer = family(row.group or ""), member(row.group or "")
        if row.metric in (MOVED, SHUFFLED) and layer.isdigit() and row.mean is not None:
            arm = row.arm if row.size is None else f"{row.arm} {row.size:,}"
            if row.metric == MOVED:
                of_value = lines.setdefault((row.eval, value), {})
                of_value.setdefault((row.model, arm, row.spec), {})[int(layer)] = row
            else:
                shuffles[(row.eval, row.model, arm, row.spec, row.group)] = row
    values = []
    for (name, value), of_value in lines.items():
        for line, rows in of_value.items():
            for number, row in rows.items():
                by_chance = shuffles[(name, *line, row.group)]
                rows[number] = replace(row, low=by_chance.low, high=by_chance.high, over=by_chance.over)
        first = next(iter(next(iter(of_value.values())).values()))
        values.append((replace(first, metric=f"{MOVED} toward {value}"), of_value))
    return charts(values, _evenly)


def _by_eval(results: Results) -> list[list[Measurement]]:
    """The rows of the first metric of each eval that can be drawn, all groups together."""
    first = headlines((row.eval, row.metric) for row in results.measured)
    by_eval: dict[str, list[Measurement]] = {}
    for row in results.measured:
        if first.get(row.eval) == row.metric and row.group is None and row.mean is not None:
            by_eval.setdefault(row.eval, []).append(row)
    return [*by_eval.values()]


def _places(sizes: Sequence[int]) -> dict[int, float]:
    """Where sizes stand on a logarithmic axis; 0 one step of the smallest two left of them."""
    above = [size for size in sizes if size]
    logs = {size: math.log(size) for size in above}
    if 0 in sizes:
        step = (logs[above[-1]] - logs[above[0]]) / (len(above) - 1) if len(above) > 1 else 1.0
        logs[0] = logs[above[0]] - step
    low, high = min(logs.values()), max(logs.values())
    return {size: (logs[size] - low) / (high - low) for size in sizes}


def _evenly(layers: Sequence[int]) -> dict[int, float]:
    """Where layers stand."""
    return {layer: (layer - layers[0]) / (layers[-1] - layers[0]) for layer in layers}


def charts(
    evals: Sequence[tuple[Measurement, Mapping[Line, Sized]]],
    placed: Callable[[Sequence[int]], dict[int, float]] = _places,
    called: Callable[[int], str] = "{:,}".format,
) -> list[Chart]:
    """Of each eval, known by one of its rows, the charts of the lines that have several points; y is alike in them."""
    evals = [(first, {line: found for line, found in lines.items() if len(found) > 1}) for first, lines in evals]
    arms = [*dict.fromkeys(arm for _, lines in evals for _, arm, _ in lines)]
    made = []
    for first, lines in evals:
        ends = [end for found in lines.values() for row in found.values() for end in (row.low, row.mean, row.high)]
        numbers = [end for end in ends if end is not None]
        for model in dict.fromkeys(model for model, _, _ in lines):
            y = Axis(RATES) if first.rate else axis(numbers, start=min(numbers))
            of_model = {line: found for line, found in lines.items() if line[0] == model}
            sizes = sorted({size for found in of_model.values() for size in found})
            places = {size: (x, called(size)) for size, x in placed(sizes).items()}
            labels = tuple(places[size] for size in sizes[:: -(-len(sizes) // MOST_NAMED)])
            made.append(Chart(model, first.eval, first.metric, y, labels, _curves(of_model, places, arms)))
    return made


def _curves(
    lines: Mapping[Line, Sized], places: Mapping[int, tuple[float, str]], arms: Sequence[str]
) -> tuple[Curve, ...]:
    return tuple(
        Curve(arm, spec, arms.index(arm), tuple(Point(*places[size], found[size]) for size in sorted(found)))
        for (_, arm, spec), found in lines.items()
    )
