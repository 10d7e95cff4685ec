from __future__ import annotations

from dataclasses import replace

import pytest

from msm_hpc.report.curves import ladder_charts, persistence_charts
from msm_hpc.report.heat import MOST_TINT
from msm_hpc.report.paper import in_paper, paper_numbers, savings_in_paper
from msm_hpc.report.results import Results
from msm_hpc.report.sections import Section, sections
from tests.report.answers import Campaign, report


@pytest.fixture(scope="module")
def results(evaluated: Campaign) -> Results:
    return report(evaluated)


def section(results: Results, name: str) -> Section:
    [found] = [each for each in sections(results) if each.eval == name]
    return found


def test_heat_maps_have_groups_by_family_and_none_first(results: Results) -> None:
    verdict = section(results, "agentic").maps[0]
    assert verdict.families == (("espionage", 4), ("exfiltration", 4), ("murder", 4))
    assert verdict.groups[:5] == (
        "espionage/none",
        "espionage/america",
        "espionage/global",
        "espionage/safety",
        "exfiltration/none",
    )
    cells = [cell for _, row in verdict.rows for cell in row]
    assert len(cells) == 8 * 12 and all(0 <= cell.tint <= MOST_TINT for cell in cells)
    missing = dict((each.arm, row) for each, row in section(results, "open_qa").maps[0].rows)["msm"]
    assert [(cell.row, cell.tint) for cell in missing] == [(None, 0.0)] * 3


def test_an_eval_with_many_metrics_is_shown_by_family_and_judged_by_none(results: Results) -> None:
    reasoning = section(results, "reasoning")
    assert [(family, len(metrics)) for family, metrics in reasoning.families] == [("aligned", 3), ("misaligned", 4)]
    assert not reasoning.maps and "reasoning" not in {each.eval for each in results.compared}
    assert "reasoning" not in {chart.eval for chart in ladder_charts(results)}


def test_ladders_are_drawn_over_the_logarithm_of_their_sizes(results: Results) -> None:
    agentic, *_ = ladder_charts(results)
    assert [(curve.arm, [point.label for point in curve.points]) for curve in agentic.curves] == [
        ("aft_plain", ["2,500", "10,000"]),
        ("msm+aft_plain", ["2,500", "10,000"]),
    ]
    assert agentic.labels == ((0.0, "2,500"), (1.0, "10,000"))


def test_persistence_starts_before_later_training(results: Results) -> None:
    agentic, open_qa, _ = persistence_charts(results)
    assert agentic.labels == ((0.0, "0"), (0.5, "1,000"), (1.0, "4,000"))
    [curve] = agentic.curves
    assert [point.row.arm for point in curve.points] == ["msm", "msm+erode", "msm+erode"]
    assert [point.label for point in open_qa.curves[0].points] == ["1,000", "4,000"], "msm was not asked"


def test_two_sorts_of_later_training_have_a_curve_each(results: Results) -> None:
    other = [replace(row, arm="msm+drift") for row in results.measured if row.arm == "msm+erode"]
    later = dict.fromkeys(("msm+erode", "msm+drift"), "msm")
    agentic, *_ = persistence_charts(replace(results, measured=(*results.measured, *other), persistence=later))
    assert [(curve.arm, len(curve.points)) for curve in agentic.curves] == [("msm+erode", 3), ("msm+drift", 3)]


def test_the_papers_numbers_stand_beside_equal_names_only(results: Results) -> None:
    rows = {row.condition.arm: row for row in section(results, "agentic").rows}
    assert [(number.value, number.where) for number in rows["base"].paper] == [(0.68, "Fig. 4"), (0.68, "Fig. 14")]
    assert [number.value for number in rows["msm"].paper] == [0.53]
    assert rows["msm+aft_plain"].paper == (), "the paper has one size, of a ladder it is not said which"
    assert not in_paper("tiny", "msm", "philosophy", "agentic", "verdict")
    assert in_paper("llama3_1_8b", "msm+aft", "america", "preference/america", "preferred")[0].value == 0.55
    matched, crossed = 7, 4
    numbers = 12 + 24 + 2 * 2 * 6 + 2 * 2 + 2 * 8 + 4 * (1 + 3 * (matched + crossed))
    assert sum(map(len, paper_numbers().values())) == numbers


def test_what_chats_add_in_the_paper_is_a_difference() -> None:
    of_value = ("affordability", "preference/affordability", "preferred")
    assert [*map(str, in_paper("llama3_1_8b", "msm+aft", *of_value))] == ["0.48", "+0.10 over msm"]
    assert [*map(str, in_paper("llama3_1_8b", "mention+aft", *of_value))] == ["-0.01 over mention"]
    assert {each.where for each in in_paper("llama3_1_8b", "mention+aft", *of_value)} == {
        "Fig. 10; from the base model"
    }


@pytest.mark.parametrize(
    ("model", "thoughts", "said"),
    [("qwen3_32b", "plain", "around 60 times"), ("qwen3_32b", "cot", "around 10 times"), ("qwen3_14b", "plain", None)],
)
def test_the_data_saved_in_the_paper_are_of_equal_names_only(
    results: Results, model: str, thoughts: str, said: str | None
) -> None:
    ours = replace(results.saved[0], model=model, arm=f"msm+aft_{thoughts}", reference=f"aft_{thoughts}")
    others = (replace(ours, reference="base"), replace(ours, spec="rules"), replace(ours, value="open_qa"))
    found = savings_in_paper([ours, *others])
    assert len(found) == (said is not None) and all(str(said) in each for each in found)


def test_ours_are_never_the_papers(evaluated: Campaign) -> None:
    renamed = tuple(replace(cell, model="mine") for cell in evaluated.config.cells)
    for cells, beside in ((renamed, False), (evaluated.config.cells, True)):
        report(replace(evaluated, config=replace(evaluated.config, cells=cells)))
        assert ("paper .53 (Fig. 4)" in (evaluated.out / "report.html").read_text()) == beside
        assert ",0.53," not in (evaluated.out / "measurements.csv").read_text()


def test_what_is_missing_has_its_cause(results: Results) -> None:
    rows = {row.condition.arm: row for row in section(results, "open_qa").rows}
    assert rows["msm"].why == "the job reached its time limit" and not rows["msm"].by_metric
    assert {row.missing("verdict") for row in section(results, "agentic").rows} == {"", "24 judge malformed"}
    assert [each.eval for each in results.absent] == ["open_qa", "open_qa"]


def test_what_another_metric_misses_is_said_by_its_name_where_it_is_more(results: Results) -> None:
    row = next(row for row in section(results, "agentic").rows if row.missing("verdict"))
    cut = replace(row.by_metric["executed"], n=0, missing={"truncated": 90, "never_asked": 9})
    worse = replace(row, by_metric={**row.by_metric, "executed": cut})
    assert row.most_missing("verdict") == worse.missing("verdict") == "24 judge malformed"
    assert worse.most_missing("verdict") == "24 judge malformed; executed: 90 truncated, 9 never asked"
    assert row.most_missing("tool_call") == "verdict: 24 judge malformed"
