from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.comparisons import compare
from msm_hpc.report.items import Floats, Items
from msm_hpc.report.measurements import ModelScores
from msm_hpc.report.results import Comparison
from msm_hpc.report.statistics import holm
from tests.report.answers import Campaign, report
from tests.report.simulated import GOALS, HARMS, agentic, choice, open_qa, write_cell

RUNS = 1_000
SAMPLES = 100
CELLS = tuple((cell, cell) for cell in sorted(f"{harm}/{goal}" for harm in HARMS for goal in GOALS))
EFFECT = -0.15


def items(true: Floats) -> Items:
    """One item a group; ``true`` is in how many of the samples."""
    return Items(CELLS, np.full(len(CELLS), float(SAMPLES)), true, true, {})


def compared(models: Mapping[tuple[str, int], Items], against: Mapping[str, tuple[str, ...]]) -> dict[str, Comparison]:
    """By arm, its comparison with another; ``models`` are by arm and seed."""
    found = [
        ModelScores(
            Cell(model="tiny", arm=arm, spec=None, size=None, seed=seed),
            {("agentic", "verdict"): scored},
            {"agentic": f"judge/{arm}-{seed}"},
        )
        for (arm, seed), scored in models.items()
    ]
    config = ReportConfig(title="", cells=tuple(model.cell for model in found), compare=against)
    return {each.arm: each for each in compare(config, found)}


@cache
def simulations() -> list[dict[str, Comparison]]:
    """Campaigns of four seeds, each with rates of its own: ``msm+aft`` is better than ``aft``, ``neutral`` is not."""
    draw = np.random.default_rng(0)
    effects = np.array([0.0, EFFECT, 0.0])[:, None, None]
    seeds = draw.normal(0.0, 0.03, (RUNS, 3, 4, 1))
    true = draw.binomial(SAMPLES, np.linspace(0.35, 0.75, len(CELLS)) + effects + seeds).astype(np.float64)
    arms = ("aft", "msm+aft", "neutral")
    return [
        compared(
            {(arm, seed): items(run[number, seed]) for number, arm in enumerate(arms) for seed in range(4)},
            {"msm+aft": ("aft",), "neutral": ("aft",)},
        )
        for run in true
    ]


def rejected(arm: str, holms: bool) -> float:
    """In how many of the simulations the arm's difference is significant."""
    ps = [run[arm].holm if holms else run[arm].p for run in simulations()]
    return sum(p is not None and p < 0.05 for p in ps) / RUNS


def test_planted_effects_are_found() -> None:
    assert rejected("msm+aft", holms=True) > 0.85
    assert all(run["msm+aft"].difference < 0 for run in simulations() if (run["msm+aft"].holm or 1) < 0.05)


def test_planted_nulls_are_found_no_more_often_than_is_said() -> None:
    assert 0.03 <= rejected("neutral", holms=False) <= 0.07
    assert rejected("neutral", holms=True) <= rejected("neutral", holms=False)


@pytest.mark.parametrize(("arm", "truth"), [("msm+aft", EFFECT), ("neutral", 0.0)])
def test_intervals_over_seeds_cover_the_truth(arm: str, truth: float) -> None:
    found = [run[arm] for run in simulations()]
    covered = [each.low <= truth <= each.high for each in found if each.low is not None and each.high is not None]
    assert len(covered) == RUNS and 0.93 <= np.mean(covered) <= 0.97


def test_holms_method_bounds_false_findings_of_a_whole_report() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    ps = np.random.default_rng(0).random((RUNS, 10))
    some = [min(p for p in holm(report.tolist()) if p is not None) < 0.05 for report in ps]
    assert np.mean(some) == pytest.approx(0.05, abs=0.02)


def test_a_single_seed_is_compared_over_groups_and_only_equal_items_count() -> None:
    first = items(np.full(len(CELLS), 40.0))
    n, true = first.n.copy(), np.full(len(CELLS), 60.0)
    n[0] = true[0] = 0
    found = compared({("a", 0): first, ("b", 0): Items(CELLS, n, true, true, {})}, {"a": ("b",)})["a"]
    assert (found.seeds, found.over, found.difference) == ((0,), "groups", pytest.approx(-0.2))
    assert found.p is None, "nothing differs between groups"
    assert found.again == pytest.approx((2 * 0.24 / 99 / 12) ** 0.5, rel=0.05)


def test_an_arm_that_is_one_model_for_all_seeds_is_compared_with_each() -> None:
    models = {("init", 0): items(np.full(len(CELLS), 60.0))}
    models |= {("a", seed): items(np.full(len(CELLS), 40.0 + seed)) for seed in range(3)}
    found = compared(models, {"a": ("init",)})["a"]
    assert found.seeds == (0, 1, 2) and found.by_seed == pytest.approx((-0.2, -0.19, -0.18)) and found.over == "seeds"


@pytest.mark.parametrize(("true", "said"), [((2.0, 4.0), "floor"), ((2.0, 40.0), ""), ((96.0, 99.0), "ceiling")])
def test_rates_near_the_same_end_are_saturated(true: tuple[float, float], said: str) -> None:
    models = {(arm, 0): items(np.full(len(CELLS), each)) for arm, each in zip("ab", true, strict=True)}
    assert compared(models, {"a": ("b",)})["a"].saturated == said


def test_specs_are_compared_by_every_eval_but_not_models_that_answer_by_position(tmp_path: Path) -> None:
    cells, found = [], {}
    for spec, rate in (("rules", 0.6), ("values", 0.2)):
        for seed in range(2):
            evals = {
                "agentic": [*agentic(rate, seed)],
                "open_qa": [*open_qa(5 + rate, seed)],
                "choice": [*choice(0.7, spec == "rules", seed)],
            }
            cell, outputs = write_cell(tmp_path, "tiny", "msm", spec, None, seed, evals)
            cells.append(cell)
            found |= outputs
    (tmp_path / "out").mkdir()
    config = ReportConfig(title="", cells=tuple(cells), contrasts=("msm",))
    campaign = Campaign(config, found, tmp_path / "out")
    results = report(campaign)
    assert [(each.eval, each.metric, each.spec, each.other_spec) for each in results.compared] == [
        ("agentic", "verdict", "rules", "values"),
        ("open_qa", "score", "rules", "values"),
    ]
    verdict, _ = results.compared
    assert verdict.difference > 0.3 and verdict.seeds == (0, 1) and verdict.holm is not None
    assert (tmp_path / "out" / "comparisons.csv").read_text().count("\n") == 3
    backwards = report(replace(campaign, config=replace(config, cells=tuple(cells[::-1]))))
    assert backwards.compared[0].difference == pytest.approx(-verdict.difference)
