from __future__ import annotations

import math
import random
from statistics import fmean, stdev

import pytest

from msm_hpc.report.statistics import (
    Cluster,
    Interval,
    difference_interval,
    effective_size,
    mean_interval,
    rate_difference,
    seed_interval,
    student_quantile,
    wilson,
)


@pytest.mark.parametrize(
    ("preferred", "n", "low", "high"),
    [  # R. G. Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_newcombe(preferred: int, n: int, low: float, high: float) -> None:
    interval = wilson(preferred / n, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_is_symmetric_contains_the_rate_and_narrows_with_n() -> None:
    for n in (0.5, 3, 17.25, 1000):
        for rate in (0.0, 0.1, 0.5, 0.9, 1.0):
            interval, mirrored = wilson(rate, n), wilson(1 - rate, n)
            assert 0 <= interval.low <= rate <= interval.high <= 1
            assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((interval.low, interval.high))
            wider = wilson(rate, n / 2)
            assert wider.high - wider.low > interval.high - interval.low
    assert wilson(0.3, 0) == Interval(0.0, 1.0)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (29, 2.045), (30, 2.042), (120, 1.980)],
)
def test_student_quantiles_against_the_usual_table(degrees: int, quantile: float) -> None:
    assert student_quantile(degrees) == pytest.approx(quantile, abs=5e-4)


def test_effective_size_by_hand() -> None:
    clusters = [Cluster(20, 20)] * 8 + [Cluster(0, 20)] * 2
    # p = .8; v = 10/9 * (8 * 4**2 + 2 * 16**2) / 200**2 = .0177..; p(1-p)/n = .0008; deff = 22.2..
    design_effect = (10 / 9 * (8 * 16 + 2 * 256) / 200**2) / (0.8 * 0.2 / 200)
    assert effective_size(clusters, 200) == pytest.approx(200 / design_effect * (1.95996 / 2.26216) ** 2, rel=1e-4)


def test_effective_size_is_never_above_n_and_ignores_cluster_order() -> None:
    alike = [Cluster(10, 20)] * 10
    assert effective_size(alike, 200) == pytest.approx(200 * (1.95996 / 2.26216) ** 2, rel=1e-4)
    mixed = [Cluster(1, 20), Cluster(19, 20), Cluster(7, 10), Cluster(3, 5)]
    assert effective_size(mixed, 55) < effective_size([Cluster(10, 20)] * 2 + [Cluster(5, 10), Cluster(2, 5)], 55) < 55
    assert effective_size(mixed, 55) == pytest.approx(effective_size(mixed[::-1], 55))
    assert 0 < effective_size([Cluster(5, 5), Cluster(5, 5)], 10) < 10
    assert effective_size([Cluster(3, 20)], 20) == 0


@pytest.mark.parametrize("preferred", [(1, 19, 12), (10, 14, 13), (11, 12, 13), (12, 12, 12), (20, 20, 20)])
def test_asking_the_same_pairs_twice_adds_nothing(preferred: tuple[int, ...]) -> None:
    """By the design effect where clusters differ much, by the number of distinct pairs where they do not."""
    once = [Cluster(count, 20) for count in preferred]
    twice = [Cluster(2 * count.total, 2 * count.n) for count in once]
    assert effective_size(twice, 60) == pytest.approx(effective_size(once, 60))


def test_clustered_interval_covers_the_truth_where_the_plain_one_does_not() -> None:
    rng = random.Random(0)
    covered = {"plain": 0, "clustered": 0}
    truth = 0.6  # mean of beta(3, 2)
    for _ in range(1000):
        clusters = []
        for _ in range(10):
            rate = rng.betavariate(3, 2)
            clusters.append(Cluster(sum(rng.random() < rate for _ in range(20)), 20))
        p = sum(cluster.total for cluster in clusters) / 200
        for name, n in (("plain", 200.0), ("clustered", effective_size(clusters, 200))):
            interval = wilson(p, n)
            covered[name] += interval.low <= truth <= interval.high
    assert covered["clustered"] >= 925
    assert covered["plain"] < 750


def test_difference_interval_by_hand() -> None:
    first, second = [Cluster(6, 10), Cluster(10, 20), Cluster(2, 10)], [Cluster(1, 10), Cluster(3, 10), Cluster(5, 20)]
    # p1 = 18/40 and p2 = 9/40, so answers beyond the expected are 1.5, 1, -2.5 and -1.25, .75, .5; t(2) = 4.30265
    moves = ((1.5 + 1.25) / 40, (1.0 - 0.75) / 40, (-2.5 - 0.5) / 40)
    half = 4.30265 * math.sqrt(3 / 2 * sum(move**2 for move in moves))
    interval = rate_difference(first, second)
    assert (interval.low, interval.high) == pytest.approx((0.225 - half, 0.225 + half), rel=1e-4)


def test_difference_interval_of_equal_domains_is_students_paired_one() -> None:
    rng = random.Random(3)
    first = [Cluster(rng.randint(8, 20), 20) for _ in range(10)]
    second = [Cluster(rng.randint(2, 14), 20) for _ in range(10)]
    differences = [(a.total - b.total) / 20 for a, b in zip(first, second, strict=True)]
    half = 2.26216 * stdev(differences) / math.sqrt(10)
    interval = rate_difference(first, second)
    expected = (fmean(differences) - half, fmean(differences) + half)
    assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-4)
    mirrored = rate_difference(second, first)
    assert (-mirrored.high, -mirrored.low) == pytest.approx((interval.low, interval.high))


def test_difference_interval_pairs_domains() -> None:
    first = [Cluster(preferred, 20) for preferred in (2, 6, 9, 12, 15, 18, 20, 4, 7, 11)]
    second = [Cluster(count.total - 2, 20) for count in first]
    paired = rate_difference(first, second)
    assert paired.low == pytest.approx(0.1) and paired.high == pytest.approx(0.1)
    unpaired = rate_difference(first, second[::-1])
    assert unpaired.low < 0 < unpaired.high


@pytest.mark.parametrize("domains", [5, 10])
def test_difference_interval_covers_the_truth(domains: int) -> None:
    """A percentile bootstrap covers it in about .83 of cases with 5 domains, and in .91 with 10."""
    rng = random.Random(0)
    truth, covered, repeats = 0.6 - 0.6 * 0.5, 0, 2000
    for _ in range(repeats):
        first, second = [], []
        for _ in range(domains):
            rate = rng.betavariate(3, 2)
            other_rate = rate * rng.betavariate(2, 2)
            first.append(Cluster(sum(rng.random() < rate for _ in range(20)), 20))
            second.append(Cluster(sum(rng.random() < other_rate for _ in range(20)), 20))
        interval = rate_difference(first, second)
        covered += interval.low <= truth <= interval.high
    assert 0.935 <= covered / repeats <= 0.965


def test_difference_interval_ends_at_one() -> None:
    assert rate_difference([Cluster(10, 10), Cluster(5, 10)], [Cluster(0, 10), Cluster(0, 10)]).high == 1.0


def test_one_domain_says_nothing_about_how_domains_differ() -> None:
    assert rate_difference([Cluster(9, 10)], [Cluster(1, 10)]) == Interval(-1.0, 1.0)
    assert difference_interval([Cluster(9, 10)], [Cluster(1, 10)]) is None
    assert mean_interval([Cluster(9, 10)]) is None


def test_mean_interval_of_unequal_clusters_by_hand() -> None:
    clusters = [Cluster(4.0, 2), Cluster(-1.0, 1), Cluster(6.0, 3)]
    # mean 9/6 = 1.5, so the clusters are beyond it by 1, -2.5 and 1.5; t(2) = 4.30265
    half = 4.30265 * math.sqrt(3 / 2 * (1 + 6.25 + 2.25) / 36)
    interval = mean_interval(clusters)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((1.5 - half, 1.5 + half), rel=1e-4)


def test_seed_interval_against_a_textbook() -> None:
    """Student's own data: hours of sleep gained under two drugs, paired (Biometrika 1908); R: t.test(sleep)."""
    first = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
    second = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
    interval = seed_interval([b - a for a, b in zip(first, second, strict=True)])
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_seed_interval_needs_two_seeds_and_stays_within_bounds() -> None:
    assert seed_interval([0.3]) is None
    two = seed_interval([0.5, 0.9])  # half of 12.706 * 0.4
    assert two is not None and (two.low, two.high) == pytest.approx((0.7 - 2.5412, 0.7 + 2.5412), abs=1e-4)
    assert seed_interval([0.5, 0.9], 0.0, 1.0) == Interval(0.0, 1.0)
    assert seed_interval([1.0, 1.0, 1.0], 0.0, 1.0) == Interval(1.0, 1.0)


def test_seed_interval_covers_the_truth() -> None:
    rng = random.Random(0)
    covered, repeats = 0, 2000
    for _ in range(repeats):
        interval = seed_interval([rng.gauss(2.0, 1.0) for _ in range(6)])
        assert interval is not None
        covered += interval.low <= 2.0 <= interval.high
    assert 0.935 <= covered / repeats <= 0.965
