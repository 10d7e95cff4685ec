from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.base.scores import Score, write_scores
from msm_hpc.config.stages import ReportConfig
from msm_hpc.report.curves import layer_charts
from msm_hpc.report.results import Measurement, Results
from msm_hpc.report.sections import sections
from msm_hpc.report.statistics import wilson
from tests.report.answers import Campaign, report
from tests.report.simulated import agentic, choice, write_cell


def campaign_of(folder: Path, seeds: Iterable[tuple[str, list[Score]]]) -> Campaign:
    """One arm a name, with a seed for each time that it is there, asked by a single eval."""
    cells, found, arms = [], {}, []
    for arm, scores in seeds:
        cell, outputs = write_cell(folder, "tiny", arm, None, None, arms.count(arm), {scores[0].task: scores})
        arms.append(arm)
        cells.append(cell)
        found |= outputs
    (folder / "out").mkdir()
    return Campaign(ReportConfig(title="", cells=tuple(cells)), found, folder / "out")


def measured(results: Results, arm: str, metric: str, group: str | None = None) -> Measurement:
    [row] = [row for row in results.measured if (row.arm, row.metric, row.group) == (arm, metric, group)]
    return row


def test_judge_failures_are_missing_by_reason_and_never_counted_as_safe(tmp_path: Path) -> None:
    results = report(campaign_of(tmp_path, [("base", [*agentic(1.0, seed=0, failed=5)])]))
    verdict, executed = measured(results, "base", "verdict"), measured(results, "base", "executed")
    assert (verdict.n, verdict.asked, verdict.missing) == (12 * 15, 12 * 20, {"judge_malformed": 60})
    assert (executed.n, executed.asked, executed.missing) == (240, 240, {})
    assert verdict.mean == verdict.total / 180
    cell = measured(results, "base", "verdict", "murder/global")
    assert (cell.n, cell.asked, cell.missing) == (15, 20, {"judge_malformed": 5})


def test_a_model_asked_less_than_others_misses_what_it_was_not_asked(tmp_path: Path) -> None:
    rows = [("base", [*agentic(0.5, 0)]), ("aft", [*agentic(0.5, 1, samples=15)])]
    results = report(campaign_of(tmp_path, rows))
    assert measured(results, "aft", "verdict").missing == {"never_asked": 60}
    assert measured(results, "aft", "verdict").asked == measured(results, "base", "verdict").asked == 240


def test_intervals_are_over_groups_then_items_then_samples(tmp_path: Path) -> None:
    results = report(campaign_of(tmp_path, [("base", [*agentic(0.6, seed=0)])]))
    assert measured(results, "base", "verdict").over == "groups"
    assert measured(results, "base", "verdict", "murder").over == "groups"
    cell = measured(results, "base", "verdict", "murder/global")
    plain = wilson(cell.total / 20, 20)
    assert (cell.over, cell.low, cell.high) == ("samples", plain.low, plain.high)
    asked_once = [Score("qa", "score", "all", f"{number}", 0, float(number)) for number in range(9)]
    (tmp_path / "qa").mkdir()
    row = measured(report(campaign_of(tmp_path / "qa", [("base", asked_once)])), "base", "score")
    assert (row.over, row.rate, row.mean, row.again) == ("items", False, 4.0, None)


def test_two_seeds_have_an_interval_over_seeds_around_the_mean_of_their_means(tmp_path: Path) -> None:
    results = report(campaign_of(tmp_path, [("base", [*agentic(0.4, seed)]) for seed in range(3)]))
    row = measured(results, "base", "verdict")
    written = csv.DictReader(io.StringIO((tmp_path / "out" / "measurements.csv").read_text()))
    rows = [each for each in written if each["metric"] == "verdict" and not each["group"]]
    means = [float(each["mean"]) for each in rows if each["seed"]]
    assert len(means) == row.seeds == 3 and row.over == "seeds"
    assert row.mean == pytest.approx(sum(means) / 3)
    assert row.low is not None and row.high is not None and row.low < row.mean < row.high
    assert [each["steps"] for each in rows if each["seed"]] == [*row.steps]


def test_asking_again_moves_a_rate_by_the_spread_of_samples(tmp_path: Path) -> None:
    cell = "murder/none"
    half = [Score("agentic", "verdict", cell, cell, sample, float(sample % 2)) for sample in range(10)]
    row = measured(report(campaign_of(tmp_path, [("base", half)])), "base", "verdict")
    assert row.again == pytest.approx((10 / 9 * 0.25 / 10) ** 0.5)


def test_shuffled_labels_have_the_range_of_the_shuffles(tmp_path: Path) -> None:
    shuffles = [Score("direction", "moved_shuffled", "america/01", f"{k}", 0, (-1.0) ** k) for k in range(100)]
    moved = [Score("direction", name, "america/01", "pair", 0, 0.7) for name in ("separates", "moved")]
    results = report(campaign_of(tmp_path, [("base", [*moved, *shuffles])]))
    row = measured(results, "base", "moved_shuffled")
    assert (row.mean, row.over) == (0.0, "shuffles")
    assert (row.low, row.high) == pytest.approx((-1.96, 1.96), abs=0.001)
    [section] = sections(results)
    assert section.metrics == ("moved", "separates", "moved_shuffled")


def test_movement_is_drawn_layer_by_layer_with_where_it_would_lie_by_chance(tmp_path: Path) -> None:
    """Shuffles flip all layers alike: here they cancel in the mean of the layers, and each layer has its own range."""
    rows = []
    for layer, sign in ((1, 1.0), (2, -1.0), (10, 0.0)):
        group = f"america/{layer:02d}"
        rows.append(Score("direction", "moved", group, "pair", 0, layer / 10))
        shuffles = ((f"shuffle-{k}", sign * (-1.0) ** k) for k in range(100))
        rows += [Score("direction", "moved_shuffled", group, name, 0, value) for name, value in shuffles]
    results = report(campaign_of(tmp_path, [("base", rows)]))
    of_value = measured(results, "base", "moved_shuffled")
    assert (of_value.low, of_value.high) == (0.0, 0.0)
    [chart] = layer_charts(results)
    assert (chart.eval, chart.metric, chart.labels) == (
        "direction",
        "moved toward america",
        ((0, "1"), (1 / 9, "2"), (1, "10")),
    )
    [curve] = chart.curves
    assert [(point.label, point.row.mean, point.row.high) for point in curve.points] == [
        ("1", 0.1, pytest.approx(1.96, abs=0.001)),
        ("2", 0.2, pytest.approx(1.96, abs=0.001)),
        ("10", 1.0, 0.0),
    ]
    assert "Layer by layer" in (tmp_path / "out" / "report.html").read_text()


def test_a_model_that_answers_by_position_is_said_to(tmp_path: Path) -> None:
    rows = [("base", [*choice(0.5, True, 0)]), ("aft", [*choice(0.8, False, 1)])]
    results = report(campaign_of(tmp_path, rows))
    position, free = measured(results, "base", "chose_target"), measured(results, "aft", "chose_target")
    assert (position.mean, position.n, position.without) == (None, 0, "by_position")
    assert free.mean is not None and free.mean > 0.5
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<span class="absent">by position</span>') == 2, "in the table of all evals, and in its own"


def test_the_parquet_file_has_what_the_csv_has_with_types(tmp_path: Path) -> None:
    report(campaign_of(tmp_path, [("base", [*agentic(0.4, 0)]), ("base", [*agentic(0.4, 1)])]))
    table = pq.read_table(tmp_path / "out" / "results.parquet")
    rows = [*csv.DictReader(io.StringIO((tmp_path / "out" / "measurements.csv").read_text()))]
    assert table.column_names == list(rows[0]) and table.num_rows == len(rows) == 3 * 3 * (1 + 3 + 12)
    assert table["mean"].to_pylist() == [float(row["mean"]) for row in rows]
    assert {*table["rate"].to_pylist()} == {True}


def test_scores_that_are_absent_damaged_or_empty_are_refused(tmp_path: Path) -> None:
    campaign = campaign_of(tmp_path, [("base", [*agentic(0.4, 0)])])
    [folder] = campaign.evaluations.values()
    write_scores(folder, [])
    with pytest.raises(UserError, match="no scores of agentic; run the eval again"):
        report(campaign)
    (folder / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        report(campaign)
    (folder / "scores.parquet").unlink()
    with pytest.raises(UserError, match="no such file"):
        report(campaign)


def test_preferences_are_measurements_too(campaign: Campaign) -> None:
    results = report(campaign)
    [row] = [
        row
        for row in results.measured
        if (row.eval, row.metric, row.arm, row.group) == ("preference/affordability", "preferred", "base", None)
    ]
    assert (row.total, row.n, row.rate, row.over) == (21, 40, True, "groups")
    [condition] = [each for each in results.conditions if each.arm == "base"]
    found = condition.preference("affordability")
    assert found is not None and found.rate is not None and (over := found.rate.pairs) is not None
    assert (row.mean, row.low, row.high) == pytest.approx((found.rate.mean, over.low, over.high))
