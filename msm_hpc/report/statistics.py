"""Intervals for rates whose pairs are not independent.

Ten domains of twenty pairs are not two hundred independent questions. Pairs of one domain share nouns, so a model that
has not learnt what a ``drill`` is fails on all drills; and every seed of an arm is asked the very same pairs. An
interval that counts pairs is then too narrow. Suppose a model prefers the target in all pairs of eight domains and in
none of the other two: the rate is 160 of 200, and counting pairs gives .74 to .85. But had the domains been drawn
anew, the share of good ones would have been quite another; counting domains gives .43 to .96.

So the domain is taken as the unit that was sampled. How much the domains differ beyond what chance would do (the design
effect) says how many independent pairs the answers are worth, and Wilson's interval is computed for that many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Count:
    """In how many of ``n`` pairs (at least 1) the target was preferred."""

    preferred: int
    n: int


def wilson(rate: float, n: float) -> Interval:
    """Wilson's score interval for ``rate`` seen in ``n`` independent trials; ``n`` may be fractional.

    E. B. Wilson (1927), JASA 22:209-212: ``(rate + z2/2n +- z sqrt(rate (1 - rate)/n + z2/4n2)) / (1 + z2/n)``.
    With ``n`` of 0 it is [0, 1].
    """
    if n == 0:
        return Interval(0.0, 1.0)
    scale = 1 + Z**2 / n
    centre = (rate + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(rate * (1 - rate) / n + Z**2 / (4 * n**2)) / scale
    return Interval(max(0.0, min(rate, centre - half)), min(1.0, max(rate, centre + half)))


def effective_size(clusters: Sequence[Count]) -> float:
    """How many independent pairs the answers are worth, given one count for each cluster (domain).

    With rate ``p`` over all ``n`` pairs of ``k`` clusters, the variance of ``p`` between clusters (linearised ratio
    estimator) is ``v = k/(k-1) sum_d (y_d - p n_d)2 / n2``, the design effect is ``deff = max(1, v / (p (1-p) / n))``,
    and the effective size is ``n / deff * (z / t)2`` with ``t`` the quantile of Student's distribution with ``k - 1``
    degrees of freedom, since ``v`` itself is estimated from ``k`` clusters only.

    E. L. Korn and B. I. Graubard (1998), Survey Methodology 24:193-201; with Wilson's interval, N. Dean and
    M. Pagano (2015), J. Survey Statistics and Methodology 3:484-503.

    Returns:
        At most ``n``. 0 for a single cluster, which tells nothing about how clusters differ.
    """
    k, n = len(clusters), sum(cluster.n for cluster in clusters)
    if k == 1:
        return 0.0
    p = sum(cluster.preferred for cluster in clusters) / n
    between = k / (k - 1) * sum((cluster.preferred - p * cluster.n) ** 2 for cluster in clusters) / n**2
    binomial = p * (1 - p) / n
    design_effect = max(1.0, between / binomial) if binomial > 0 else 1.0
    return n / design_effect * (Z / student_quantile(k - 1)) ** 2


def student_quantile(degrees: int) -> float:
    """The point that Student's t with ``degrees`` of freedom stays within, in size, with 95% probability."""
    low, high = 0.0, 1000.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, degrees) < CONFIDENCE else (low, middle)
    return high


def _student_within(t: float, degrees: int) -> float:
    """P(|T| < t), by the finite series of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(degrees))
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return 2 / math.pi * (angle + within) if odd else within


def difference_interval(first: Sequence[Count], second: Sequence[Count], seed: int) -> Interval:
    """Interval for the rate of ``first`` minus that of ``second``, by bootstrap over clusters.

    Both are asked about the same domains, and ``first[d]`` and ``second[d]`` count the answers in domain ``d``: a
    resample draws whole domains, and takes both counts of each. The interval runs between the 2.5th and the 97.5th
    percentile of 10,000 resamples (A. C. Davison and D. V. Hinkley (1997), Bootstrap Methods and their Application,
    sections 3.8 and 5.3). With about ten domains it is somewhat narrow; with one it is [-1, 1], since nothing tells
    how domains differ.
    """
    assert len(first) == len(second)
    k = len(first)
    if k == 1:
        return Interval(-1.0, 1.0)
    draws = np.random.default_rng(seed).multinomial(k, np.full(k, 1 / k), size=RESAMPLES)
    differences = _resampled_rates(draws, first) - _resampled_rates(draws, second)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(differences, [tail, 100 - tail])
    return Interval(float(low), float(high))


def _resampled_rates(draws: NDArray[np.int64], counts: Sequence[Count]) -> NDArray[np.float64]:
    """Rates [resamples] given how often each cluster was drawn, ``draws`` [resamples, clusters]."""
    preferred = draws @ np.array([count.preferred for count in counts])
    return np.asarray(preferred / (draws @ np.array([count.n for count in counts])))
