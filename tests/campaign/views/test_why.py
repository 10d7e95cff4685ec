from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from msm_hpc.base.files import read_json, write_json
from msm_hpc.campaign.views.ends import NO_RECORD
from msm_hpc.campaign.views.why import MOST, grouped, why
from msm_hpc.graph.build import Graph
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store

GraphOf = Callable[..., Graph]


def pretend_done(graph: Graph, store: Store) -> None:
    """Records and done-marks for every step, as after a run; the results themselves are not needed to compare."""
    store.register(graph.steps)
    for step in graph.steps:
        store.of(step).out.mkdir(exist_ok=True)
        write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": now()})


def test_a_done_step_has_no_reason_to_run(graph: GraphOf, store: Store) -> None:
    pretend_done(graph(), store)
    assert why(graph().find("aft/base/seed0"), graph(), store) == []


def test_the_changed_field_is_named(graph: GraphOf, store: Store) -> None:
    pretend_done(graph(), store)
    changed = graph("stages.aft.learning_rate=1e-5")
    assert why(changed.find("aft/base/seed0"), changed, store) == ["aft/base/seed0: learning_rate 0.0003 -> 1e-05"]


def test_a_change_upstream_is_followed_to_where_it_began(graph: GraphOf, store: Store) -> None:
    pretend_done(graph(), store)
    changed = graph("stages.pretrain.weight_decay=0.5")
    assert why(changed.find("eval/america/msm+aft/75/seed1"), changed, store) == [
        "pretrain/base/seed1: weight_decay 0.1 -> 0.5"
    ]


def test_another_aft_size_is_reported_by_the_plan_that_it_changes(graph: GraphOf, store: Store) -> None:
    few = ("campaign.seeds=[0,1]", "campaign.arms=[init,base,msm,aft,msm+aft]", "campaign.contrast=[msm+aft]")
    pretend_done(graph(*few), store)
    changed = graph(*few, "sources.chats.ladder=[50]")
    reason = ["pack/aft/chats+instruction/50/seed0: sources.chats.samples 75 -> 50"]
    assert why(changed.find("pack/aft/chats+instruction/50/seed0"), changed, store) == reason
    assert why(changed.find("eval/aft/50/seed0"), changed, store) == reason
    report = why(changed.report, changed, store)
    assert "report/demo: cells.tiny/aft/75/0 'a cell' -> (absent)" in report
    assert "report/demo: cells.tiny/aft/50/0 (absent) -> 'a cell'" in report


def test_an_edited_spec_is_named(graph: GraphOf, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    file.write_text("---\nvalue: america\n---\nOne.\n")
    mine = f"campaign.specs=[{{name: affordability}},{{name: mine, file: {file}}}]"
    pretend_done(graph(mine), store)
    file.write_text("---\nvalue: america\n---\nTwo.\n")
    for step in ("midtrain/mine/msm/seed0", "aft/mine/msm/seed0", "eval/mine/msm+aft/75/seed1"):
        assert why(graph(mine).find(step), graph(mine), store) == [f"the content of {file} changed"]


def test_a_step_that_never_ran_says_what_it_waits_for(graph: GraphOf, store: Store) -> None:
    once = "stages.pretrain.once=true"
    now = graph(once)
    assert why(now.find("generate/tokenizer"), now, store) == ["not run yet"]
    pretend_done(graph(once, "campaign.seeds=[0]"), store)
    assert why(now.find("midtrain/america/msm/seed1"), now, store) == [
        "not run yet: waits for pack/midtrain/documents-america+pretraining/seed1"
    ]
    assert ("not run yet: waits for pack, midtrain",) in grouped(now, store), "not compared with seed 0"


def test_a_failed_step_gives_its_cause(graph: GraphOf, store: Store) -> None:
    step = graph().find("pretrain/base/seed0")
    job = JobRef("local", "1")
    attempt = Attempt(job, "host", 1, None, "", now(), now(), "code", "RuntimeError: no")
    store.of(step).write_attempt(1, attempt)
    assert why(step, graph(), store) == ["its last attempt ended: code: RuntimeError: no"]
    store.of(step).write_attempt(2, Attempt(job, "host", 1, None, "", now()))
    assert why(step, graph(), store) == [f"its last attempt ended: lost: {NO_RECORD}"]


def test_steps_that_share_a_reason_are_shown_together(graph: GraphOf, store: Store) -> None:
    pretend_done(graph(), store)
    changed = graph("stages.pretrain.weight_decay=0.5", "eval.answer='{item}'")
    groups = grouped(changed, store)
    trained = groups["pretrain: weight_decay 0.1 -> 0.5",]
    assert {step.stage for step in trained} == {"pretrain", "midtrain", "aft", "export"}
    assert sum(map(len, groups.values())) == len([step for step in changed.steps if not store.of(step).done])


def test_a_deleted_result_is_named(graph: GraphOf, store: Store) -> None:
    step = graph().find("generate/tokenizer")
    store.of(step).write_attempt(1, Attempt(JobRef("local", "1"), "host", 1, None, "", now(), now(), "done"))
    assert why(step, graph(), store) == [f"its result was deleted: {store.of(step).out}"]


def test_many_steps_and_cells_do_not_flood(graph: GraphOf, store: Store) -> None:
    once = "stages.pretrain.once=true"
    pretend_done(graph(once, "campaign.seeds=[0]"), store)
    more = graph(once, "campaign.seeds=[0,1,2,3]", "stages.aft.learning_rate=1e-5")
    reasons = why(more.report, more, store)
    assert len(reasons) == MOST + 1
    assert re.fullmatch(r"and \d+ more differences", reasons[-1])
    groups = grouped(more, store)
    assert len(groups) < 12 and sum(map(len, groups.values())) > 90
    trained = groups["aft: learning_rate 0.0003 -> 1e-05",]
    assert {step.stage for step in trained} == {"aft", "export", "eval"}
    assert not any("midtrain: learning_rate" in reason for group in groups for reason in group), "aft is no midtrain"


def test_a_running_step_is_not_called_dead(graph: GraphOf, store: Store) -> None:
    step = graph().find("pretrain/base/seed0")
    folder, job = store.of(step), local_job()
    store.register((step,))
    folder.write_lease(job)
    folder.write_attempt(1, Attempt(job, "host", 1, None, "", now()))
    assert why(step, graph(), store) == [f"it is running, in job {job.id}"]


def test_a_corpus_of_ones_own_in_the_place_of_a_generated_one_is_named(
    graph: GraphOf, store: Store, tmp_path: Path
) -> None:
    """And back, and where the earlier version's record is gone, or has a schema of another version."""
    file = tmp_path / "chats.jsonl"
    file.write_text("{}\n")
    own, name = graph(f"sources.chats.file={file}"), "tokenize/chats"
    pretend_done(own, store)
    assert why(graph().find(name), graph(), store) == [f"{name}: corpus was {file} -> generate/chats"]

    pretend_done(graph(), store)
    changed = graph("sources.chats.generate.rows=500")
    assert why(changed.find(name), changed, store) == ["generate/chats: count 400 -> 500"]
    folder = store.of(graph().find("generate/chats"))
    record = read_json(folder.path / "step.json")
    write_json(folder.path / "step.json", record | {"config": {"no_longer": 1}})
    assert "of another version of msm_hpc" in str(why(changed.find(name), changed, store))
    (folder.path / "step.json").unlink()
    shutil.rmtree(store.of(own.find(name)).path)
    assert why(changed.find(name), changed, store) == [
        f"{name}: corpus was {folder.path.parent.name}/{folder.path.name} -> generate/chats"
    ]
