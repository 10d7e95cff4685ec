from __future__ import annotations

from itertools import product

from msm_hpc.report.html import render_html
from msm_hpc.report.pivots import LISTED, pivots
from msm_hpc.report.results import Condition, Measurement, Results
from msm_hpc.report.sections import sections
from tests.report.page import Page

SPECS = (None, "rules", "values")
ARMS = tuple(f"arm{number}" for number in range(5))


def measured(model: str, arm: str, spec: str | None) -> Measurement:
    return Measurement(
        model=model,
        arm=arm,
        spec=spec,
        size=None,
        seed=None,
        eval="agentic",
        metric="verdict",
        group=None,
        rate=True,
        mean=0.25,
        n=100,
        asked=100,
        seeds=1,
        missing={},
        total=25.0,
        low=None,
        high=None,
        over="",
        again=None,
        steps=("score/1",),
    )


def results(*models: str, specs: tuple[str | None, ...] = SPECS) -> Results:
    """Every arm under every spec, but none of the first without one."""
    cells = [each for each in product(models, ARMS, specs) if each[1:] != ("arm0", None)]
    conditions = tuple(Condition(model, arm, spec, None, (), ()) for model, arm, spec in cells)
    return Results("T", "chats", (), (), (), conditions, (), measured=tuple(measured(*each) for each in cells))


def test_each_model_has_a_table_of_arms_and_specs() -> None:
    found = results("small", "large")
    small, large = pivots(found, sections(found))
    assert (small.model, large.model) == ("small", "large") and small.specs == SPECS
    assert [[cell is None for cell in cells] for _, cells in small.rows] == [[True, False, False], *[[False] * 3] * 4]
    assert [first.condition.arm for first, _ in small.rows] == [*ARMS]


def test_few_conditions_and_those_of_one_spec_are_read_one_after_another() -> None:
    few = results("small")
    assert len(few.conditions) <= LISTED and pivots(few, sections(few)) == []
    one = results("a", "b", "c", specs=(None, "rules"))
    assert len(one.conditions) > LISTED and pivots(one, sections(one)) == []


def test_the_page_has_the_tables_and_folds_the_list() -> None:
    page = Page(render_html(results("small", "large")))
    assert "Agentic · small verdict" in page.lines and "All 28 conditions, one after another" in page.lines
