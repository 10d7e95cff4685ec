"""The plots as data: a panel for each value, in it a row for each condition, with its rate and its log-odds.

The template draws them as SVG: horizontal positions are percentages and sizes are pixels, so that a plot fills any
width, a phone's too, while its text and marks keep their size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msm_hpc.report.axes import RATES, Axis, axis
from msm_hpc.report.results import Condition, Estimate, Preference, Results

NEUTRAL = "neutral"


RATE_AXIS = Axis(RATES, reference=0.5)


@dataclass(frozen=True)
class SeedMark:
    """What one seed gave."""

    rate: float | None
    log_odds: float
    seed: int
    step: str


@dataclass(frozen=True)
class PlotRow:
    """One condition in one panel.

    ``model`` is None where the report has only one. ``colour`` is a CSS class; ``preference`` is None where no
    evaluation was found; ``gap_above`` separates arms and models.
    """

    model: str | None
    arm: str
    spec: str | None
    size: int | None
    colour: str
    preference: Preference | None
    seeds: tuple[SeedMark, ...]
    gap_above: bool


@dataclass(frozen=True)
class Panel:
    """All conditions for one value, and a sentence for readers who cannot see the plot."""

    value: str
    rows: tuple[PlotRow, ...]
    description: str


def spec_colours(results: Results) -> dict[str, str]:
    """A CSS class for each spec, in alphabetical order; conditions without a spec are drawn in ``NEUTRAL``."""
    specs = sorted({condition.spec for condition in results.conditions if condition.spec})
    return {spec: f"spec-{index % 8}" for index, spec in enumerate(specs)}


def log_odds_axis(results: Results) -> Axis:
    """One axis for the log-odds of all panels, from the lowest interval or seed to the highest."""
    pooled = (result.preference.log_odds for condition in results.conditions for result in condition.values)
    single = (result.preference.log_odds.mean for cell in results.cells for result in cell.values)
    return axis([*_ends(pooled), *single])


def contrast_axis(results: Results) -> Axis:
    """One axis for the differences in log-odds of all contrasts."""
    seeds = (difference for contrast in results.contrasts for difference in contrast.by_seed)
    return axis([*_ends(contrast.log_odds for contrast in results.contrasts), *seeds])


def _ends(estimates: Iterable[Estimate]) -> Iterator[float]:
    for estimate in estimates:
        yield estimate.mean
        if estimate.shown is not None:
            yield from (estimate.shown.low, estimate.shown.high)


def panels(results: Results) -> list[Panel]:
    """One panel a value."""
    return [_panel(results, value) for value in results.values]


def _panel(results: Results, value: str) -> Panel:
    colours = spec_colours(results)
    rows: list[PlotRow] = []
    before: Condition | None = None
    for condition in results.conditions:
        rows.append(
            PlotRow(
                model=condition.model if results.several_models else None,
                arm=condition.arm,
                spec=condition.spec,
                size=condition.size,
                colour=colours.get(condition.spec or "", NEUTRAL),
                preference=condition.preference(value),
                seeds=_seed_marks(condition, value),
                gap_above=before is not None and (before.model, before.arm) != (condition.model, condition.arm),
            )
        )
        before = condition
    return Panel(value, tuple(rows), _describe(value, rows, results.counted))


def _seed_marks(condition: Condition, value: str) -> tuple[SeedMark, ...]:
    return tuple(
        SeedMark(found.rate.mean if found.rate else None, found.log_odds.mean, result.cell.seed, result.cell.step)
        for result in condition.cells
        if (found := result.preference(value)) is not None
    )


def _describe(value: str, rows: list[PlotRow], counted: str) -> str:
    words = "; ".join(_in_words(row, counted) for row in rows)
    return f"How much the option that expresses {value} is preferred: {words}."


def _in_words(row: PlotRow, counted: str) -> str:
    model = f"{row.model} " if row.model else ""
    spec = f" on spec {row.spec}" if row.spec else ""
    size = "" if row.size is None else f" with {row.size:,} {counted}"
    found = row.preference
    rate = _number(found.rate, ".2f") if found and found.rate else "none (by position)"
    result = f"rate {rate}, log-odds {_number(found.log_odds, '+.2f')}" if found else "missing"
    return f"{model}{row.arm}{spec}{size} {result}"


def _number(estimate: Estimate, form: str) -> str:
    interval = estimate.shown
    return f"{estimate.mean:{form}}" + (f" ({interval.low:{form}} to {interval.high:{form}})" if interval else "")
