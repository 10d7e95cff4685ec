from __future__ import annotations

from dataclasses import replace
from itertools import product

from msm_hpc.report.grids import LISTED, grids
from msm_hpc.report.html import render_html
from msm_hpc.report.results import Comparison, Condition, Results
from tests.report.page import Page

SPECS = ("thrift", "home", "calm")
ONE = Comparison(
    eval="preference/thrift",
    metric="log_odds",
    model="tiny",
    size=None,
    arm="msm",
    spec="thrift",
    other_arm="mention",
    other_spec="thrift",
    seeds=(0, 1),
    by_seed=(0.1, 0.3),
    difference=0.2,
    low=0.1,
    high=0.3,
    over="seeds",
    p=0.01,
    holm=0.02,
    again=None,
    saturated="",
)
AGENTIC = ("agentic", "verdict")
METRICS = [AGENTIC, *((f"preference/{value}", "log_odds") for value in reversed(SPECS))]
ALL = [
    replace(ONE, eval=metric[0], metric=metric[1], arm=arm, spec=spec, other_spec=spec)
    for metric, arm, spec in product(METRICS, ("msm", "msm+aft"), SPECS)
]


def results(*compared: Comparison) -> Results:
    """A report of these alone, whose conditions have no cells."""
    conditions = tuple(Condition("tiny", arm, spec, None, (), ()) for spec in SPECS for arm in ("msm", "msm+aft"))
    return Results("T", "chats", (), (), (), conditions, (), compared=compared)


def test_a_grid_has_specs_down_and_evals_across_with_own_values_on_its_diagonal() -> None:
    first, second = grids(results(*ALL))
    assert (first.arm, second.arm) == ("msm", "msm+aft")
    assert first.metrics == (*METRICS[:0:-1], AGENTIC)
    assert [spec for spec, _ in first.rows] == [*SPECS]
    assert all(each and (each.spec, each.arm) == (spec, "msm") for spec, cells in first.rows for each in cells)


def test_what_was_not_compared_leaves_a_hole() -> None:
    missing = replace(ONE, eval="agentic", metric="verdict", spec="home", other_spec="home")
    first, _ = grids(results(*(each for each in ALL if each != missing)))
    assert [cells[-1] is None for _, cells in first.rows] == [False, True, False]


def test_few_comparisons_one_spec_and_two_specs_of_one_arm_make_none() -> None:
    assert grids(results(*ALL[:LISTED])) == []
    assert grids(results(*[each for each in ALL if each.spec == "home"] * 2)) == []
    assert grids(results(*(replace(each, other_arm=each.arm, other_spec="other") for each in ALL))) == []


def test_the_page_has_the_grids_and_folds_the_list() -> None:
    source = render_html(results(*ALL))
    page = Page(source)
    assert {f"{arm} \N{MINUS SIGN} mention" for arm in ("msm", "msm+aft")} <= {*page.lines}
    assert "All 24 comparisons, with p and seeds" in page.lines
    assert source.count('class="first own sure"') == 6, "each spec on its own value, in two grids"
    few = render_html(results(*ALL[:LISTED]))
    assert "by-spec" not in few.partition("</style>")[2] and "<details>" not in few
