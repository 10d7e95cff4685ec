"""What a campaign took, as a table: a row for each arm, a column for each reason, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from msm_hpc.config.stages import Hours

DIGITS = 4
"""Of the sum of all; other numbers have as many decimals."""


@dataclass(frozen=True)
class HoursTable:
    """Numbers as text, the sum of each row last; the last row is the sum of all, where there are several."""

    unit: str
    reasons: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def hours_table(hours: Hours | None) -> HoursTable | None:
    """The table; None where nothing was spent, or nothing is known of it."""
    if hours is None:
        return None
    reasons = tuple(dict.fromkeys(reason for row in hours.by_arm.values() for reason in row))
    numbers = {arm: [row.get(reason, 0.0) for reason in reasons] for arm, row in hours.by_arm.items()}
    if len(numbers) > 1:
        numbers["in all"] = [sum(column) for column in zip(*numbers.values(), strict=True)]
    decimals = max(DIGITS - math.floor(math.log10(max(map(sum, numbers.values())))) - 1, 0)
    return HoursTable(hours.unit, reasons, tuple((arm, _in_words(row, decimals)) for arm, row in numbers.items()))


def _in_words(row: Sequence[float], decimals: int) -> tuple[str, ...]:
    least = 10.0**-decimals
    return tuple(
        f"{each:,.{decimals}f}" if each >= least / 2 else f"<{least:.{decimals}f}" if each else "\N{EN DASH}"
        for each in (*row, sum(row))
    )
