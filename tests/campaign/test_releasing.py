"""Elements that wait for different elements: each is released once what it reads itself is there, or never will be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from msm_hpc.campaign.array_requests import SubmissionPlan
from msm_hpc.campaign.releasing import releasing
from msm_hpc.campaign.slurm_run import plan_submission, submit
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.store import Store
from tests.campaign.test_submission import CLUSTER, SOURCES, finish
from tests.toy_slurm import ToySlurm, in_the_path

BOTH = {"one": SOURCES[0], "two": SOURCES[1]}
DTYPES = (None, "float32")
READERS = [Step("export", f"of {each.label}", ExportConfig(dtype=d), {"of": each}) for d in DTYPES for each in SOURCES]
GRAPH = Graph((*READERS, Step("export", "of both", ExportConfig(), BOTH)))
"""Of the second array, elements 0 and 2 read the first source, 1 and 3 the second, and 4 both."""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


def plan(store: Store) -> SubmissionPlan:
    return plan_submission("demo", GRAPH, store, CLUSTER)


def updates(slurm: ToySlurm) -> list[str]:
    return [call.removeprefix("update ") for call in slurm.calls("scontrol") if call.startswith("update")]


def test_a_step_that_is_made_releases_what_waits_for_no_other(store: Store, slurm: ToySlurm) -> None:
    submit(lambda: plan(store), store, CLUSTER, print)
    assert [waits for *_, waits in slurm.submitted()] == ["", "afterany:64"]
    for source, released in zip(SOURCES, ("65_[0,2]", "65_[1,3,4]"), strict=True):
        with releasing(store, source.id):
            finish(store, source)
        assert updates(slurm)[-1] == f"JobId={released} Dependency="


def test_one_that_failed_releases_all_that_read_it(store: Store, slurm: ToySlurm) -> None:
    """They find in the job that their input is missing, and end."""
    submit(lambda: plan(store), store, CLUSTER, print)
    with pytest.raises(RuntimeError), releasing(store, SOURCES[0].id):
        raise RuntimeError
    assert updates(slurm) == ["JobId=65_[0,2,4] Dependency="]


def test_one_that_is_to_run_again_releases_nothing(store: Store, slurm: ToySlurm) -> None:
    submit(lambda: plan(store), store, CLUSTER, print)
    with pytest.raises(RuntimeError), releasing(store, SOURCES[0].id):
        store.of(SOURCES[0]).write_lease(JobRef("slurm", "64_0"))
        raise RuntimeError
    assert updates(slurm) == []


def test_what_came_while_arrays_were_submitted_is_not_waited_for(store: Store, slurm: ToySlurm) -> None:
    def planned() -> SubmissionPlan:
        found = plan(store)
        finish(store, SOURCES[1])
        return found

    submit(planned, store, CLUSTER, print)
    assert updates(slurm) == ["JobId=65_[1,3] Dependency="]


def test_what_an_earlier_submission_makes_is_waited_for_too(store: Store, slurm: ToySlurm) -> None:
    early = Step("generate", "early", GenerateConfig(product="pairs", count=9), {})
    graph = Graph((*READERS[:2], Step("export", "of early, too", ExportConfig(), {**BOTH, "early": early})))
    for each in (Graph((early,)), graph):
        submit(partial(plan_submission, "demo", each, store, CLUSTER), store, CLUSTER, print)
    assert slurm.submitted()[-1][-1] == "afterany:65,afterany:64"
    for step in SOURCES:
        with releasing(store, step.id):
            finish(store, step)
    assert updates(slurm) == ["JobId=66_[0] Dependency=", "JobId=66_[1] Dependency="]
    with releasing(store, early.id):
        finish(store, early)
    assert updates(slurm)[2:] == ["JobId=66_[2] Dependency="]


def test_what_slurm_refuses_to_release_waits_for_the_whole_array(store: Store, slurm: ToySlurm) -> None:
    submit(lambda: plan(store), store, CLUSTER, print)
    (slurm.folder / "scontrol").write_text("#!/bin/sh\necho 'Access/permission denied' >&2; exit 1\n")
    with releasing(store, SOURCES[0].id):
        finish(store, SOURCES[0])
    assert "65_0" in slurm.queue()
