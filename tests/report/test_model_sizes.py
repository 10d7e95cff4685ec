from __future__ import annotations

from dataclasses import replace

from msm_hpc.config.stages import ModelSize
from msm_hpc.report.html import render_html
from msm_hpc.report.model_sizes import size_charts
from msm_hpc.report.results import Condition, Contrast, Estimate, Results
from msm_hpc.report.statistics import Interval
from tests.report.page import Page

SIZES = {
    "q5_small": ModelSize(family="qwen2", parameters=500_000_000),
    "q5_large": ModelSize(family="qwen2", parameters=32_000_000_000),
    "q3_small": ModelSize(family="qwen3", parameters=600_000_000),
}
MEANS = {"q5_small": 0.1, "q5_large": 0.9, "q3_small": 0.2, "unknown": 0.3}


def results(*models: str) -> Results:
    contrasts = tuple(
        Contrast(
            value="home",
            model=model,
            arm="msm+aft",
            spec="home",
            other_spec="thrift",
            size=None,
            seeds=(0, 1),
            by_seed=(MEANS[model], MEANS[model]),
            rate=None,
            log_odds=Estimate(MEANS[model], None, Interval(MEANS[model] - 0.1, MEANS[model] + 0.1)),
        )
        for model in models
    )
    conditions = tuple(Condition(model, "msm+aft", "home", None, (), ()) for model in models)
    return Results("T", "chats", (), (), (), conditions, contrasts, models=SIZES)


def test_a_family_of_several_sizes_has_a_line_over_its_parameters() -> None:
    [chart] = size_charts(results(*MEANS))
    assert chart.labels == ((0.0, "0.5B"), (1.0, "32.0B")) and (chart.eval, chart.model) == ("home", "")
    [curve] = chart.curves
    assert (curve.arm, curve.spec) == ("qwen2 \N{MIDDLE DOT} msm+aft", "home")
    assert [(point.row.mean, point.row.high, point.row.over) for point in curve.points] == [
        (0.1, 0.2, "seeds"),
        (0.9, 1.0, "seeds"),
    ]


def test_of_three_specs_each_other_one_has_a_line_and_those_of_another_value_have_none() -> None:
    two = results("q5_small", "q5_large")
    against = [replace(each, other_spec="novelty", log_odds=Estimate(0.5, None, None)) for each in two.contrasts]
    foreign = [replace(each, spec="thrift", other_spec="novelty") for each in two.contrasts]
    [chart] = size_charts(replace(two, contrasts=(*two.contrasts, *against, *foreign)))
    assert {(curve.arm, curve.spec): [point.row.mean for point in curve.points] for curve in chart.curves} == {
        ("qwen2 \N{MIDDLE DOT} msm+aft (minus thrift)", "home"): [0.1, 0.9],
        ("qwen2 \N{MIDDLE DOT} msm+aft (minus novelty)", "home"): [0.5, 0.5],
    }


def test_one_size_of_each_family_makes_no_chart() -> None:
    assert size_charts(results("q5_small", "q3_small", "unknown")) == []


def test_the_page_shows_it() -> None:
    page = Page(render_html(results(*MEANS)))
    assert "With larger models" in page.lines
    assert any("0.10 with 0.5B, 0.90 with 32.0B" in line for line in page.lines)
