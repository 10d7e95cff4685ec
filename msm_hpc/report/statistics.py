"""Intervals for rates and log-odds: over the pairs that were asked, and over training seeds.

**Over pairs**: what other pairs would say of the same models. Ten domains of twenty pairs are not two hundred
independent questions. Pairs of one domain share nouns, so a model that has not learnt what a ``drill`` is fails on all
drills; and every seed of an arm is asked the very same pairs. An interval that counts pairs is then too narrow. Suppose
a model prefers the target in all pairs of eight domains and in none of the other two: the rate is 160 of 200, and
counting pairs gives .74 to .85. But with ten other domains the share of good ones could have been quite different;
counting domains gives .43 to .96.

So the domain is the sampling unit. How much domains differ beyond chance (the design effect) gives the number of
independent pairs that the answers are worth, which is never more than the pairs asked, however many seeds were asked
them; Wilson's interval is computed for that number. Mean log-odds and differences have a t interval over domains.

**Over training seeds**: what other seeds would give. Here the seed is the sampling unit: Student's interval for the
mean of one value a seed, in a contrast of one difference a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

CONFIDENCE = 0.95
ROUNDING = 1e-12
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
Over = Literal["seeds", "groups", "items", "samples", "shuffles", ""]
"""What an interval is over, with what else a number could have come out differently: see docs/report.md."""


@dataclass(frozen=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float

    def within(self, low: float, high: float) -> Interval:
        """As much of it as lies between ``low`` and ``high``."""
        return Interval(max(low, self.low), min(high, self.high))

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Cluster:
    """The sum of ``n`` values (at least 1) of a domain, or a seed; for a rate, in how many the target was preferred."""

    total: float
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


def effective_size(clusters: Sequence[Cluster], distinct: int) -> float:
    """The number of independent pairs that the answers are worth.

    With rate ``p`` over all ``n`` answers of ``k`` clusters, the variance of ``p`` between clusters (linearised ratio
    estimator) is ``v = k/(k-1) sum_d (y_d - p n_d)2 / n2``, the design effect is ``deff = max(1, v / (p (1-p) / n))``,
    and the effective size is ``min(n / deff, distinct) * (z / t)2`` with ``t`` the quantile of Student's distribution
    with ``k - 1`` degrees of freedom, since ``v`` itself is estimated from ``k`` clusters only.

    E. L. Korn and B. I. Graubard (1998), Survey Methodology 24:193-201; with Wilson's interval, N. Dean and
    M. Pagano (2015), J. Survey Statistics and Methodology 3:484-503. The bound ``distinct`` is ours: where clusters do
    not differ, ``n / deff`` would count a pair once for each seed that was asked it.

    Args:
        clusters: for each cluster (domain), the answers of all seeds.
        distinct: the number of different pairs asked.

    Returns:
        At most ``distinct``. 0 for a single cluster, which says nothing about how clusters differ.
    """
    k, n, p = len(clusters), sum(cluster.n for cluster in clusters), mean(clusters)
    if k == 1:
        return 0.0
    between = k / (k - 1) * sum(residual**2 for residual in _residuals(clusters))
    binomial = p * (1 - p) / n
    design_effect = max(1.0, between / binomial) if binomial > 0 else 1.0
    return min(n / design_effect, distinct) * (Z / student_quantile(k - 1)) ** 2


def student_quantile(degrees: int) -> float:
    """The two-sided 95% quantile of Student's t; ``scipy.stats.t.ppf`` is this function, but slow to import."""
    from scipy.special import stdtrit  # here: it takes a tenth of the time in which a command starts

    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def rate_difference(first: Sequence[Cluster], second: Sequence[Cluster]) -> Interval:
    """The interval of :func:`difference_interval` for rates: within [-1, 1], and all of that for a single domain."""
    interval = difference_interval(first, second)
    return interval.within(-1.0, 1.0) if interval else Interval(-1.0, 1.0)


def difference_interval(first: Sequence[Cluster], second: Sequence[Cluster]) -> Interval | None:
    """Interval for the mean of ``first`` minus that of ``second``, paired over clusters.

    Both are asked about the same domains, and ``first[d]`` and ``second[d]`` sum the answers in domain ``d``. To
    first order (linearisation) domain ``d`` moves the difference ``m1 - m2`` of the two ratios by
    ``z_d = (y1_d - m1 n1_d)/n1 - (y2_d - m2 n2_d)/n2``, so its variance is ``k/(k-1) sum_d z_d2``, and the interval is
    ``m1 - m2`` plus or minus the root of that times Student's quantile with ``k - 1`` degrees of freedom.

    W. G. Cochran (1977), Sampling Techniques, ch. 6; E. L. Korn and B. I. Graubard (1999), Analysis of Health Surveys,
    ch. 2.

    Returns:
        None for a single cluster, which says nothing about how clusters differ; no width where all differ equally.
    """
    moves = [a - b for a, b in zip(_residuals(first), _residuals(second), strict=True)]
    if len(moves) == 1:
        return None
    return _student(mean(first) - mean(second), moves)


def mean_interval(clusters: Sequence[Cluster]) -> Interval | None:
    """Interval for the mean, in the same way; clusters of one value each give Student's. None for a single cluster."""
    return _student(mean(clusters), _residuals(clusters)) if len(clusters) > 1 else None


def seed_interval(by_seed: Sequence[float], low: float = -math.inf, high: float = math.inf) -> Interval | None:
    """Student's interval for the mean of one value a training seed, within bounds; None for fewer than two seeds."""
    interval = mean_interval([Cluster(value, 1) for value in by_seed])
    return interval and interval.within(low, high)


def pseudo_values(clusters: Sequence[Cluster]) -> list[float]:
    """A value for each cluster: Student's interval for their mean is :func:`mean_interval` of the clusters.

    It is the mean plus ``k`` times how much the cluster moves it, for ``k`` clusters.
    """
    centre, k = mean(clusters), len(clusters)
    return [centre + k * move for move in _residuals(clusters)]


def p_value(clusters: Sequence[Cluster]) -> float | None:
    """Two-sided p of Student's test that the mean is 0, by the error of :func:`mean_interval`.

    None for a single cluster, and where all are equal, as they can be only by rounding or at the end of a scale.
    """
    from scipy.special import stdtr

    if len(clusters) == 1 or (error := _error(_residuals(clusters))) < ROUNDING:
        return None
    return 2 * float(stdtr(len(clusters) - 1, -abs(mean(clusters)) / error))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Each p adjusted for all of them, by Holm's step-down method (1979), Scandinavian J. Statistics 6:65-70.

    If none of the effects is there, any is below .05 in at most 5 of 100 reports.
    """
    order = sorted((each, place) for place, each in enumerate(p) if each is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (each, place) in enumerate(order):
        adjusted[place] = highest = max(highest, min(1.0, each * (len(order) - rank)))
    return adjusted


def mean(clusters: Sequence[Cluster]) -> float:
    """The mean over all values of all clusters; for a rate, the rate."""
    return sum(cluster.total for cluster in clusters) / sum(cluster.n for cluster in clusters)


def _student(centre: float, moves: Sequence[float]) -> Interval:
    half = student_quantile(len(moves) - 1) * _error(moves)
    return Interval(centre - half, centre + half)


def _error(moves: Sequence[float]) -> float:
    """The standard error of a mean that its clusters move by ``moves``."""
    k = len(moves)
    return math.sqrt(k / (k - 1) * sum(move**2 for move in moves))


def _residuals(clusters: Sequence[Cluster]) -> list[float]:
    """How much each cluster moves the mean ``m`` (linearised): ``(y_d - m n_d) / n``; they sum to 0."""
    m, n = mean(clusters), sum(cluster.n for cluster in clusters)
    return [(cluster.total - m * cluster.n) / n for cluster in clusters]
