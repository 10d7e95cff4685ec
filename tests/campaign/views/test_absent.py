from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msm_hpc.campaign.views.absent import why_absent
from msm_hpc.config.stages import ReportConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store
from tests.campaign.views.test_status import ATTEMPT, finish, source, step


def graph_of(*evaluations: Step, audits: Sequence[Step] = ()) -> Graph:
    read = {"evaluations": {each.id: each for each in evaluations}, "audits": {each.id: each for each in audits}}
    report = Step("report", "r", ReportConfig(title="", cells=()), read)
    return Graph((report,), report=report)


def test_what_is_not_there_has_its_own_state_or_that_of_what_it_waits_for(store: Store) -> None:
    done, new, failed = source("done"), source("new"), source("failed")
    behind = step("behind", step("between", failed))
    finish(store, done)
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="oom", message="out of memory: 90 GB\nmore of it"))
    assert why_absent(graph_of(done, new, behind), store) == {
        new.id: "not started",
        behind.id: "eval/failed failed (oom: out of memory: 90 GB)",
    }
    assert why_absent(graph_of(done), store) == {}
    assert why_absent(graph_of(done, audits=[failed]), store) == {failed.id: "failed (oom: out of memory: 90 GB)"}


def test_a_long_message_is_cut(store: Store) -> None:
    failed = source("failed")
    store.of(failed).write_attempt(1, replace(ATTEMPT, cause="code", message="x" * 1_000))
    [why] = why_absent(graph_of(failed), store).values()
    assert why.startswith("failed (code: xxx") and len(why) == 161
