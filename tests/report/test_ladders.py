"""How much less data an arm needs, from the scores of models on simulated curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from msm_hpc.config.stages import Cell
from msm_hpc.report.efficiency import Saved
from msm_hpc.report.items import items_from
from msm_hpc.report.ladders import saved
from msm_hpc.report.measurements import ModelScores

SIZES = (1_250, 5_000, 20_000, 80_000)
METRIC = ("preference/america", "log_odds")
DOMAINS = {f"domain {number}": 1 + number % 3 for number in range(12)}
"""Domain to its number of pairs."""


def curve(rows: float) -> float:
    """A straight line, so that nothing is lost between the rungs."""
    return math.log(rows)


def models(
    reach: Callable[[str, int, str], float], seeds: int = 1, of: Mapping[str, int] = DOMAINS
) -> list[ModelScores]:
    """Two ladders, whose log-odds on all pairs of a domain are what ``reach`` says of arm, size and domain."""
    found = []
    for arm in ("msm+aft", "aft"):
        for size in SIZES:
            for seed in range(seeds):
                rows = [(name, f"{name}/{pair}", reach(arm, size, name)) for name, n in of.items() for pair in range(n)]
                cell = Cell(model="tiny", arm=arm, spec=None, size=size, seed=seed)
                found.append(ModelScores(cell, {METRIC: items_from(rows)}, {METRIC[0]: "eval"}))
    return found


def shifted(factor: float, noise: Callable[[], float] = lambda: 0.0) -> Callable[[str, int, str], float]:
    """``msm+aft`` needs ``factor`` times less, in every domain; ``noise`` is of a model and a domain."""
    return lambda arm, size, _: curve(size * (factor if arm == "msm+aft" else 1)) + noise()


def only(of: list[ModelScores]) -> Saved:
    (found,) = saved({"msm+aft": "aft"}, of)
    return found


def test_of_one_seed_the_interval_is_over_domains() -> None:
    exact = only(models(shifted(4.0)))
    assert (exact.value, exact.seeds, exact.over) == ("america", 1, "groups")
    last = exact.savings[-1]
    assert [last.factor, last.low, last.high] == pytest.approx([4.0] * 3, rel=0.02)


@pytest.mark.parametrize("noise", [0.6, 0.02])
@pytest.mark.parametrize("factor", [2.0, 7.0])
def test_of_one_seed_it_covers_the_known_answer_in_95_of_100_simulations(factor: float, noise: float) -> None:
    random, simulations, covered = np.random.default_rng(int(factor)), 1_000, 0
    equal = dict.fromkeys(DOMAINS, 1)
    for _ in range(simulations):
        last = only(models(shifted(factor, lambda: noise * random.standard_normal()), of=equal)).savings[-1]
        covered += (last.low or 0) <= factor <= (last.high or math.inf)
    assert 0.93 <= covered / simulations <= 0.97


def test_what_makes_a_domain_easy_on_every_rung_is_no_noise() -> None:
    random = np.random.default_rng(3)
    easy = {name: 5 * random.standard_normal() for name in DOMAINS}
    reach = shifted(4.0)
    found = only(models(lambda arm, size, name: reach(arm, size, name) + easy[name])).savings[-1]
    assert [found.low, found.high] == pytest.approx([4.0] * 2, rel=0.02)


def test_from_two_seeds_on_it_is_over_seeds() -> None:
    found = only(models(shifted(4.0), seeds=2))
    assert (found.seeds, found.over) == (2, "seeds")


def test_of_one_domain_it_is_over_its_pairs_and_of_one_pair_there_is_none() -> None:
    assert only(models(shifted(4.0), of={"home": 8})).over == "items"
    alone = only(models(shifted(4.0), of={"home": 1})).savings[-1]
    assert alone.factor == pytest.approx(4.0)
    assert (alone.low, alone.high) == (None, None)


def test_a_domain_without_an_answer_on_one_rung_is_in_the_number_and_not_in_the_interval() -> None:
    *others, last = models(shifted(4.0))
    odd = _first_pair(last, total=27.0)
    moved = only([*others, odd]).savings[-1]
    assert moved.factor == pytest.approx(2.0, rel=0.1) and moved.low is None, "one domain moves it beyond the ladder"
    found = only([_first_pair(others[0], n=0.0), *others[1:], odd]).savings[-1]
    assert [found.low, found.factor, found.high] == pytest.approx([moved.factor] * 3)


def _first_pair(model: ModelScores, n: float = 1.0, total: float = 0.0) -> ModelScores:
    """The model with other sums for its first pair."""
    items = model.scored[METRIC]
    changed = replace(items, n=np.array([n, *items.n[1:]]), total=np.array([total, *items.total[1:]]))
    return replace(model, scored={METRIC: changed})
