"""What the plot of rates shows: a panel for each value, a row for each condition.

The template draws it as SVG whose horizontal positions are percentages and whose sizes are pixels, so that a plot fills
any width, a phone's too, while its text and marks keep their size.
"""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.report.results import Condition, Rate, Results

NEUTRAL = "neutral"


@dataclass(frozen=True)
class SeedMark:
    """One model's own rate."""

    rate: float
    seed: int
    step: str


@dataclass(frozen=True)
class PlotRow:
    """One condition in one panel.

    ``colour`` is a CSS class; ``rate`` is None where no evaluation was found; ``first_of_arm`` asks for a gap above.
    """

    arm: str
    spec: str | None
    aft_samples: int
    colour: str
    rate: Rate | None
    seeds: tuple[SeedMark, ...]
    first_of_arm: bool


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
    for condition in results.conditions:
        rows.append(
            PlotRow(
                arm=condition.arm,
                spec=condition.spec,
                aft_samples=condition.aft_samples,
                colour=colours.get(condition.spec or "", NEUTRAL),
                rate=condition.rate(value),
                seeds=_seed_marks(condition, value),
                first_of_arm=bool(rows) and rows[-1].arm != condition.arm,
            )
        )
    return Panel(value, tuple(rows), _describe(value, rows))


def _seed_marks(condition: Condition, value: str) -> tuple[SeedMark, ...]:
    return tuple(
        SeedMark(entry.rate.rate, result.cell.seed, result.cell.step)
        for result in condition.cells
        for entry in result.rates
        if entry.value == value
    )


def _describe(value: str, rows: list[PlotRow]) -> str:
    return f"Rates of choosing the option that expresses {value}: {'; '.join(map(_in_words, rows))}."


def _in_words(row: PlotRow) -> str:
    spec = f" on spec {row.spec}" if row.spec else ""
    chats = f" with {row.aft_samples:,} chats" if row.aft_samples else ""
    result = f"{row.rate.rate:.2f}, interval {row.rate.low:.2f} to {row.rate.high:.2f}" if row.rate else "missing"
    return f"{row.arm}{spec}{chats} {result}"
