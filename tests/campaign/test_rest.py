"""A limit of queued jobs: one small job submits the rest, now and then, and comes to an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.cancelling import cancellation
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import statuses
from msm_hpc.store.journal import Journal
from msm_hpc.store.store import Store
from tests.campaign.test_submission import GRAPH, LAST, ONE, SOURCES, TWO, check_queued_once, finish, run
from tests.toy_slurm import ToySlurm, in_the_path


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


def enter(job: str, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on this process is of a job, which runs."""
    slurm.start_job(job)
    variables = {"JOB_ID": job, "JOB_NUM_NODES": "1", "NTASKS": "1", "JOB_NODELIST": "n1", "PROCID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")


def names(slurm: ToySlurm) -> list[str]:
    return [name for _, _, name, _ in slurm.submitted()]


def test_what_there_is_no_room_for_is_left_to_a_job(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(3)
    plan, ids = run(store)
    assert (ids, [array.name for array in plan.arrays]) == (["64"], ["generate"])
    assert plan.rest and (plan.rest.job, plan.rest.steps) == ("65", 3)
    assert slurm.submitted()[-1][2:] == ["msm-demo-rest", "afterany:64"]


def test_where_that_job_has_no_room_either_an_element_gives_way(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(4)
    plan, ids = run(store)
    assert (ids, slurm.queue()) == (["64", "65"], ["64_0", "64_1", "65_0", "66"])
    assert plan.rest and plan.rest.steps == 2
    assert slurm.submitted()[-1][2:] == ["msm-demo-rest", "'afterany:64?afterany:65'"], "quoted by submitit"


def test_where_all_have_begun_one_of_them_gives_way(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(4)
    slurm.start_job("64_0", "64_1", "65_0", "65_1")
    plan, ids = run(store)
    assert (ids, slurm.queue()) == (["64", "65"], ["64_0", "64_1", "65_0", "66"])
    assert plan.rest and (plan.rest.steps, plan.rest.stopped) == (2, "65_1")
    assert set(Journal(store.root).read()[-1].steps) == {TWO.id, LAST.id}


def test_the_rest_waits_in_status_and_goes_with_cancel(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(4)
    run(store)
    assert {each.state for each in statuses(GRAPH, store, holders(GRAPH.steps, store))} == {"pending"}
    found = {each.job.id for each in cancellation("demo", GRAPH, store, shared=False).jobs}
    assert found == {*slurm.queue()}


def test_its_job_submits_the_rest_and_waits_again_where_there_is_no_room(
    store: Store, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.limit(3)
    run(store)
    assert slurm.queue() == ["64_0", "64_1", "65"]
    enter("65", slurm, monkeypatch)
    slurm.end("64_0", "64_1")
    finish(store, *SOURCES)
    plan, ids = run(store)
    assert [each.name for each in plan.arrays] == ["export"] and plan.rest
    assert slurm.calls("scontrol")[-2:] == ["requeue 65", f"update JobId=65 Dependency=afterany:{ids[0]}"]
    slurm.end(*(job for job in slurm.queue() if job != "65"))
    finish(store, ONE, TWO)
    plan, _ = run(store)
    assert [each.name for each in plan.arrays] == ["export"] and not plan.rest
    slurm.end("65")
    assert len(slurm.queue()) == 1


def test_it_tries_nothing_again_that_failed_and_leaves_what_reads_it(
    store: Store, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.limit(3)
    run(store)
    enter("65", slurm, monkeypatch)
    slurm.end("64_0", "64_1")
    finish(store, SOURCES[1])
    plan, _ = run(store)
    assert [step.identity for array in plan.arrays for step in array.steps] == [TWO.identity]


def test_with_nothing_ahead_that_could_make_room_it_is_an_error(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(1)
    with pytest.raises(UserError, match=r"AssocMaxSubmitJobLimit; nothing was submitted, .*max_array_size"):
        run(store)
    assert slurm.queue() == []


def test_a_run_by_hand_takes_the_job_back_and_submits_what_it_can(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(4)
    run(store)
    slurm.limit(9)
    plan, _ = run(store)
    assert plan.rest is None and names(slurm).count("msm-demo-rest") == 1
    check_queued_once(store, slurm)


def test_a_second_run_leaves_one_such_job(store: Store, slurm: ToySlurm) -> None:
    slurm.limit(4)
    run(store)
    run(store)
    rest = {job for job, _, name, _ in slurm.submitted() if name == "msm-demo-rest"}
    assert len(rest) == 2 and len(rest.intersection(slurm.queue())) == 1
    assert len(slurm.queue()) == 4
