"""What the report in a job learns of the store: hours, and where the pages of audits lie."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.campaign.report_stage import hours, linked, run
from msm_hpc.campaign.views.ledger import SEVERAL, ledger, steps_by_arm, tries_at
from msm_hpc.config.stages import Audited, ReportConfig, ReportInputs
from msm_hpc.graph.build import Graph
from msm_hpc.launch.allocation import Allocation
from msm_hpc.store.store import Store
from tests.campaign.shrunk import SHRUNK
from tests.campaign.views.test_ledger import published, tried
from tests.composed import graph_of, load_config
from tests.report.answers import write_answers


@pytest.fixture(scope="module")
def graph() -> Graph:
    return graph_of(load_config(SHRUNK))


def test_the_page_has_the_hours_of_all_steps_behind_it_by_arm(graph: Graph, tmp_path: Path) -> None:
    """Half an hour each: of two steps of one arm, of which one was not published, and of one that all share."""
    assert graph.report is not None
    store = Store(tmp_path)
    store.register(graph.steps)
    evaluation = graph.find("eval/affordability/msm+aft/30/seed0")
    for name in ("pretrain/base", "aft/affordability/msm+aft/30/seed0", evaluation.name):
        tried(store.of(graph.find(name)), 1, 0, 1800, "done")
    write_answers(store.of(evaluation).out, {"affordability": 3, "america": 1})
    published_answers = store.of(evaluation)
    inputs = ReportInputs(evaluations={evaluation.id: published_answers.out})
    run(graph.report.config, inputs, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "What it took" in page and "rank-hours" in page
    spent = ledger(tries_at(map(store.of, graph.steps)), on_gpus=False)
    table = hours(spent, steps_by_arm(graph))
    assert table is not None and table.by_arm.keys() == {"msm+aft", SEVERAL}
    for arm, row in table.by_arm.items():
        assert f'<th scope="row">{arm}</th>' in page
        assert f"{sum(row.values()):.3f}</td>" in page


def test_where_gpus_were_held_they_are_counted(graph: Graph, tmp_path: Path) -> None:
    assert graph.report is not None
    store = Store(tmp_path)
    evaluation = graph.find("eval/affordability/msm+aft/30/seed0")
    store.register(graph.steps)
    tried(store.of(evaluation), 1, 0, 1800, "done", held=Allocation(0, 1, 1))
    write_answers(store.of(evaluation).out, {"affordability": 3, "america": 1})
    run(graph.report.config, ReportInputs(evaluations={evaluation.id: store.of(evaluation).out}), tmp_path)
    assert "GPU-hours" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_any_result_nothing_is_said_of_hours(graph: Graph, tmp_path: Path) -> None:
    assert graph.report is not None
    run(graph.report.config, ReportInputs(evaluations={}), tmp_path)
    assert "What it took" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_link_leads_from_where_the_page_will_lie(tmp_path: Path) -> None:
    """A job writes into the folder of its attempt, which becomes the result."""
    store = Store(tmp_path)
    audit, report = store.folder("audit/0123456789abcdef"), store.folder("report/0123456789abcdef")
    tried(audit, 1, 0, 60, "done")
    published(audit, 1)
    found = {"rows": 10, "gates": []}
    (audit.out / "audit.json").write_text(json.dumps(found))
    config = ReportConfig(title="t", cells=(), audited=(Audited(corpus="documents", step=audit.id),))
    inputs = ReportInputs(evaluations={}, audits={audit.id: audit.out})
    tried(report, 1, 0, None, None)
    run(config, inputs, report.attempt(1).out)
    page = (report.attempt(1).out / "report.html").read_text(encoding="utf-8")
    assert f'href="../../../{audit.id}/out/corpus.html"' in page
    [aside] = linked(config.audited, inputs, store.unfinished("report/demo"))
    assert aside.page == f"../../../steps/{audit.id}/out/corpus.html"
    assert linked(config.audited, replace(inputs, audits={}), report.out) == config.audited
