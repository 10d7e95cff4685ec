"""Axes with round ticks, for whatever is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TICKS = 7


@dataclass(frozen=True)
class Axis:
    """An axis from its first tick to its last; ``reference`` is where neither option is preferred, if anywhere."""

    ticks: tuple[float, ...]
    reference: float | None = None

    def at(self, number: float) -> float:
        """Where ``number`` lies, from 0 at the first tick to 1 at the last."""
        return (number - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])


RATES = (0.0, 0.25, 0.5, 0.75, 1.0)


def axis(numbers: Sequence[float], reference: float | None = 0.0, start: float = 0.0) -> Axis:
    """An axis with round ticks that has room for ``numbers`` and for ``start``."""
    low, high = min([start, *numbers]), max([start, *numbers])
    rough = max(high - low, 0.1) / (MOST_TICKS - 2)
    power = 10 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return Axis(tuple(number * step for number in range(first, last + 1)), reference)
