"""The plots of rates as data: a panel for each value, a row for each condition.

The template draws them as SVG: horizontal positions are percentages and sizes are pixels, so that a plot fills any
width, a phone's too, while its text and marks keep their size.
"""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.report.results import Condition, Rate, Results

NEUTRAL = "neutral"


@dataclass(frozen=True)
class SeedMark:
    """The rate of one seed."""

    rate: float
    seed: int
    step: str


@dataclass(frozen=True)
class PlotRow:
    """One condition in one panel.

    ``model`` is None where the report has only one. ``colour`` is a CSS class; ``rate`` is None where no evaluation was
    found; ``gap_above`` separates arms and models.
    """

    model: str | None
    arm: str
    spec: str | None
    size: int | None
    colour: str
    rate: Rate | None
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
    return {spec: f"spec-{index % 6}" for index, spec in enumerate(specs)}


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
                rate=condition.rate(value),
                seeds=_seed_marks(condition, value),
                gap_above=before is not None and (before.model, before.arm) != (condition.model, condition.arm),
            )
        )
        before = condition
    return Panel(value, tuple(rows), _describe(value, rows, results.counted))


def _seed_marks(condition: Condition, value: str) -> tuple[SeedMark, ...]:
    return tuple(
        SeedMark(entry.rate.rate, result.cell.seed, result.cell.step)
        for result in condition.cells
        for entry in result.rates
        if entry.value == value
    )


def _describe(value: str, rows: list[PlotRow], counted: str) -> str:
    words = "; ".join(_in_words(row, counted) for row in rows)
    return f"Rates of choosing the option that expresses {value}: {words}."


def _in_words(row: PlotRow, counted: str) -> str:
    model = f"{row.model} " if row.model else ""
    spec = f" on spec {row.spec}" if row.spec else ""
    size = "" if row.size is None else f" with {row.size:,} {counted}"
    result = f"{row.rate.rate:.2f}, interval {row.rate.low:.2f} to {row.rate.high:.2f}" if row.rate else "missing"
    return f"{model}{row.arm}{spec}{size} {result}"
