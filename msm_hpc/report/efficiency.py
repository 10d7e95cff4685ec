"""Token efficiency: how much less data one arm needs than another to do as well.

Both arms climb a ladder of data sizes. With ``n`` rows the reference reaches some level; the arm reaches the same level
with ``m`` rows, and ``n / m`` is how much less it needs. Both curves are taken to be straight between neighbouring
rungs, over the logarithm of the size.

**The number**: where the arm's mean curve, made monotone (isotonic regression), first reaches the level.

**Its interval** has no bootstrap, which is too narrow with a handful of training seeds. It is Fieller's, by inversion:
for every size between the first rung and the last, the arm's value at that size less the reference's level is one
difference a seed, and the interval holds all sizes at which Student's test does not reject that its mean is 0.
E. C. Fieller (1954), J. Royal Statistical Society B 16:175-185. Where a size at an end of the ladder is among them, the
interval is open on that side: the ladder does not say more. With two or three seeds it covers more than 95%. With a
single seed the groups of the eval stand in place of the seeds, which says what other questions would give, and nothing
of other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from msm_hpc.report.statistics import Interval, Over, seed_interval, student_quantile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

NO_INTERVAL = "no interval"


@dataclass(frozen=True)
class Ladder:
    """What an arm reached: ``values[unit][rung]``, of which more is better, at ``sizes[rung]`` rows, which ascend.

    A unit is what the interval is over, such as a seed.
    """

    sizes: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    def at(self, rung: int) -> tuple[float, ...]:
        """The values of all units on one rung."""
        return tuple(row[rung] for row in self.values)


@dataclass(frozen=True)
class Saving:
    """How much less data an arm needs to reach what the reference reaches with ``size`` rows.

    Attributes:
        factor: ``size`` divided by the rows needed; where ``bound`` says so, it is only known to be at least this (the
            arm's smallest rung is above the level already), or at most (its largest is below).
        low: the lower end of the 95% interval; None where it is open, or there are fewer than two units.
        high: the upper end, likewise.
        learnt: whether the reference is better with ``size`` rows than on its lowest rung, by an interval that excludes
            0, or in the only unit; if not, there is nothing that its data did, and nothing to save.
    """

    size: int
    factor: float
    bound: Literal["", "at least", "at most"]
    low: float | None
    high: float | None
    learnt: bool


@dataclass(frozen=True)
class Saved:
    """How much less data ``arm`` on ``spec`` needs than the arm ``reference``, in log-odds on ``value``.

    ``savings`` are one for each rung of the reference but the lowest. Their intervals are over ``over``: the training
    ``seeds``, or of one seed the groups of the eval, or its items.
    """

    value: str
    model: str
    arm: str
    spec: str | None
    reference: str
    seeds: int
    over: Over
    savings: tuple[Saving, ...]


def savings(arm: Ladder, reference: Ladder) -> tuple[Saving, ...]:
    """How much less data ``arm`` needs, for each rung of ``reference`` but the lowest; units are paired in order."""
    return tuple(saving(arm, reference, rung) for rung in range(1, len(reference.sizes)))


def saving(arm: Ladder, reference: Ladder, rung: int) -> Saving:
    """The same for one rung of ``reference``."""
    import numpy as np  # here: commands start without it

    assert len(arm.values) == len(reference.values), "both arms have the same units"
    size, level = reference.sizes[rung], np.array(reference.at(rung))
    above = np.array(arm.values) - level[:, None]
    needed, bound = _reached(arm.sizes, above.mean(axis=0))
    smallest, largest = _not_rejected(arm.sizes, above) if len(above) > 1 else (-math.inf, math.inf)
    gains = [after - before for after, before in zip(reference.at(rung), reference.at(0), strict=True)]
    gained = seed_interval(gains) or Interval(gains[0], gains[0])
    return Saving(
        size=size,
        factor=_factor(size, needed),
        bound=bound,
        low=None if bound == "at most" else _end(size, max(largest, needed)),
        high=None if bound == "at least" else _end(size, min(smallest, needed)),
        learnt=gained.low > 0,
    )


def _factor(size: int, log_rows: float) -> float:
    return size / round(math.exp(log_rows), 6)


def _end(size: int, log_rows: float) -> float | None:
    return _factor(size, log_rows) if math.isfinite(log_rows) else None


def _reached(sizes: Sequence[int], above: Values) -> tuple[float, Literal["", "at least", "at most"]]:
    """The logarithm of the rows with which the monotone curve of ``above`` first reaches 0, and how it is a bound."""
    from scipy.optimize import isotonic_regression

    logs, curve = [math.log(size) for size in sizes], isotonic_regression(above).x
    if curve[0] > 0:
        return logs[0], "at least"
    if curve[-1] < 0:
        return logs[-1], "at most"
    rungs = zip(pairwise(logs), pairwise(curve), strict=True)
    (low, high), (below, reached) = next(pair for pair in rungs if pair[1][1] >= 0)
    return low + (high - low) * (-below / (reached - below) if reached > below else 0.0), ""


def _not_rejected(sizes: Sequence[int], above: Values) -> tuple[float, float]:
    """The smallest and largest log size at which the mean of ``above`` (a row a unit) may be 0, by Student's test.

    They are infinite where the ladder ends before the test rejects. Between two rungs, with weights ``1 - w`` and
    ``w``, the mean is ``(1-w) m0 + w m1``, its variance ``((1-w)2 v0 + 2 w (1-w) c + w2 v1) / k`` over ``k`` units, and
    the test does not reject where the mean's square is at most ``t2`` times that: a quadratic in ``w``.
    """
    import numpy as np

    k, logs = len(above), [math.log(size) for size in sizes]
    found: list[float] = []
    for rung, (low, high) in enumerate(pairwise(logs)):
        pair = above[:, rung : rung + 2]
        means = pair.mean(axis=0)
        (left, cross), (_, right) = np.outer(means, means) - student_quantile(k - 1) ** 2 * np.cov(pair.T) / k
        roots = np.roots([left - 2 * cross + right, 2 * (cross - left), left])
        inside = [float(root.real) for root in roots if not root.imag and 0 < root.real < 1]
        ends = [w for w, excess in ((0.0, left), (1.0, right)) if excess <= 0]
        found += [low + w * (high - low) for w in (*inside, *ends)]
    if not found:  # all above the level, or all below; or, where units agree, a crossing without any width
        means = above.mean(axis=0)
        return (-math.inf if means.min() > 0 else math.inf, math.inf if means.max() < 0 else -math.inf)
    smallest, largest = min(found), max(found)
    return -math.inf if smallest == logs[0] else smallest, math.inf if largest == logs[-1] else largest


def note(saved: Iterable[Saved]) -> str:
    """What the table of savings means."""
    of_one = "; of a single seed over the questions asked, or groups of them, which says nothing of other seeds"
    return (
        "How much less data the arm needs to reach what the other reaches (of preferences, the log-odds), with the 95% "
        f"interval over training seeds{of_one if any(each.over != 'seeds' for each in saved) else ''}. Nothing to "
        "save: the other is not surely better with that much than on its lowest rung."
    )


def in_words(saving: Saving, over: Over) -> tuple[str, ...]:
    """The factor, its interval, and what that is over if not seeds: ``4.0 times``, ``1.7 to 9.1``, ``over groups``."""
    if not saving.learnt:
        return ("nothing to save",)
    factor = f"{saving.bound} {_number(saving.factor)} times".strip()
    interval = _interval(saving)
    return (factor, interval) if over == "seeds" or interval == NO_INTERVAL else (factor, interval, f"over {over}")


def _interval(saving: Saving) -> str:
    match saving.low, saving.high:
        case None, None:
            return NO_INTERVAL
        case float(low), None:
            return f"{_number(low)} or more"
        case None, float(high):
            return f"up to {_number(high)}"
        case float(low), float(high):
            return f"{_number(low)} to {_number(high)}"
    raise AssertionError("all pairs of ends are above")


def _number(factor: float) -> str:
    """Two digits that count, or all of a whole number."""
    return f"{factor:.2g}" if factor < 10 else f"{factor:,.0f}"
