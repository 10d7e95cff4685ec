"""How much less data an arm needs: on simulated curves, whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from msm_hpc.report.efficiency import Ladder, Saving, saving, savings

SIZES = (1_250, 2_500, 5_000, 10_000, 20_000, 40_000, 80_000)


def curve(rows: float, shift: float = 1.0) -> float:
    """A log-odds that grows with the logarithm of the rows, and levels off; ``shift`` times the data moves it left."""
    return 4 / (1 + math.exp(-0.55 * math.log(rows * shift / 9_000)))


def ladder(random: np.random.Generator, shift: float, seeds: int, noise: float = 0.12) -> Ladder:
    rows = [[curve(size, shift) + noise * random.standard_normal() for size in SIZES] for _ in range(seeds)]
    return Ladder(SIZES, tuple(map(tuple, rows)))


def exact(shift: float, seeds: int = 2) -> Ladder:
    return ladder(np.random.default_rng(0), shift, seeds, noise=0.0)


def last(arm: Ladder, reference: Ladder) -> Saving:
    return saving(arm, reference, len(SIZES) - 1)


@pytest.mark.parametrize("seeds", [4, 8])
@pytest.mark.parametrize("factor", [1.7, 4.0, 13.0])
def test_the_interval_covers_the_known_answer_in_95_of_100_simulations(factor: float, seeds: int) -> None:
    random, simulations, covered = np.random.default_rng([seeds, int(10 * factor)]), 1_000, 0
    for _ in range(simulations):
        found = last(ladder(random, factor, seeds), ladder(random, 1.0, seeds))
        covered += (found.low or 0) <= factor <= (found.high or math.inf)
    assert 0.93 <= covered / simulations <= 0.97


def test_the_number_itself_is_near_the_known_answer() -> None:
    random = np.random.default_rng(5)
    found = [last(ladder(random, 8.0, 4), ladder(random, 1.0, 4)).factor for _ in range(300)]
    assert np.exp(np.mean(np.log(found))) == pytest.approx(8.0, rel=0.03)


def test_no_saving_is_found_where_there_is_none() -> None:
    random, simulations = np.random.default_rng(6), 1_000
    found = [last(ladder(random, 1.0, 4), ladder(random, 1.0, 4)) for _ in range(simulations)]
    claimed = sum(saving.low is not None and saving.low > 1 for saving in found)
    assert claimed / simulations <= 0.035, "one side of 5%"


def test_without_noise_it_is_the_ratio_of_sizes() -> None:
    assert [saving.factor for saving in savings(exact(4.0), exact(1.0))[1:]] == pytest.approx([4.0] * 5)
    assert not any(saving.bound for saving in savings(exact(4.0), exact(1.0))[1:])


@pytest.mark.parametrize("factor", [1.9, 3.7, 11.3])
def test_the_interval_of_seeds_that_agree_is_the_number(factor: float) -> None:
    found = last(exact(factor), exact(1.0))
    assert [found.low, found.high] == pytest.approx([found.factor] * 2)
    assert found.factor == pytest.approx(factor, rel=0.04)


def test_an_arm_that_is_above_the_level_on_its_lowest_rung_saves_at_least_that() -> None:
    found = last(exact(1_000.0), exact(1.0))
    assert (found.bound, found.high) == ("at least", None)
    assert [found.factor, found.low] == pytest.approx([64.0, 64.0])


def test_an_arm_that_never_reaches_the_level_saves_at_most_that() -> None:
    found = last(exact(0.01), exact(1.0))
    assert (found.bound, found.low) == ("at most", None)
    assert [found.factor, found.high] == pytest.approx([1.0, 1.0])


def test_data_that_did_nothing_leave_nothing_to_save() -> None:
    random = np.random.default_rng(7)
    flat = Ladder(SIZES, tuple(tuple(0.1 * random.standard_normal(len(SIZES))) for _ in range(4)))
    assert not last(exact(4.0, seeds=4), flat).learnt
    assert last(exact(4.0, seeds=4), exact(1.0, seeds=4)).learnt


def test_one_seed_gives_a_number_without_an_interval() -> None:
    found = last(exact(4.0, seeds=1), exact(1.0, seeds=1))
    assert found.factor == pytest.approx(4.0)
    assert (found.low, found.high, found.learnt) == (None, None, True)


def test_a_dip_of_the_arm_s_curve_does_not_count_as_reaching_it_twice() -> None:
    arm = Ladder((10, 100, 1_000), ((0.0, 2.0, 1.0), (0.0, 2.2, 1.2)))
    found = savings(arm, Ladder((10, 100, 1_000), ((0.0, 0.5, 1.5), (0.0, 0.5, 1.5))))[-1]
    assert found.bound == ""
    assert 1_000 / found.factor == pytest.approx(85, rel=0.05)
