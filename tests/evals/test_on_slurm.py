"""On a real Slurm: the shares of an eval as an array, whose servers die once each, and a judge that comes late."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from msm_hpc.campaign.slurm_run import plan_submission, submit
from msm_hpc.config.cluster import Cluster, Resources, WorkClasses
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.evals import SampleConfig, ScoreConfig
from msm_hpc.config.serving import Serving
from msm_hpc.config.stages import ExportConfig
from msm_hpc.endpoint import spent
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.job import current_job
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.endpoint.faulty_model_server import FaultyModelServer
from tests.evals.fakes import lines, scores_in
from tests.evals.judge_server import JUDGE, judging
from tests.serving import fake_vllm
from tests.serving.toy import without_weights
from tests.slurm_tools import why_no_cluster

SHARES, SAMPLES, CELLS = 2, 2, 27
LIVES_FOR = 17
"""Replies of each server before it dies: of a share's 27 the first has fewer than all, two together have more."""
SECONDS = 180
SMALL = Resources(memory_gb=0.5, time_minutes=5)
CLUSTER = Cluster(launcher="slurm", resources=WorkClasses(cpu=SMALL, gpu_eval=SMALL))
SERVER = (
    f"{sys.executable} {fake_vllm.__file__} -m {fake_vllm.MODULE} --model={{model}} --served-model-name={{name}} "
    f"--host=127.0.0.1 --port={{port}} --fake-dies-after={LIVES_FOR}"
)


@pytest.fixture
def judge() -> Iterator[FaultyModelServer]:
    if reason := why_no_cluster():
        pytest.skip(reason)
    slurm_commands.settings.cache_clear()
    with judging() as server:
        yield server


def exported(store: Store) -> Step:
    """A trained model that is done, as far as a fake server looks."""
    model = Step("export", "model", ExportConfig(), {})
    store.register((model,))
    own = store.of(model).attempt(1)
    assert own.take(Attempt(job=current_job(), host="here", ranks=1, commit="", log="", start=now()))
    own.begin()
    without_weights(own.out)
    store.of(model).publish(own)
    return model


def steps(store: Store, judge: FaultyModelServer) -> tuple[Step, ...]:
    """The shares, and the step that scores what they were answered."""
    model = exported(store)
    serving = Serving(server="command", command=SERVER, in_flight=4)
    asked = SampleConfig(
        task="agentic", samples=SAMPLES, temperature=0.7, max_tokens=9, prompts="p", serving=serving, shares=1
    )
    shares = tuple(
        Step("sample", f"share/{share}", replace(asked, share=share, shares=SHARES), {"model": model})
        for share in range(SHARES)
    )
    sample = Step("sample", "whole", asked, {"model": model}, shares=shares)
    where = Endpoint(model=JUDGE, base_url=judge.url, patience_s=1)
    scoring = ScoreConfig(eval="agentic", task="agentic", samples=SAMPLES, judge=where, prompts="p")
    return (*shares, Step("score", "agentic", scoring, {"replies": sample}))


def run(score: Step, store: Store) -> None:
    graph = Graph((score,))
    submit(lambda: plan_submission("evals", graph, store, CLUSTER), store, CLUSTER, print)


def causes(step: Step, store: Store) -> list[str | None]:
    return [attempt.cause for attempt in store.of(step).attempts()]


def wait_until(happened: Callable[[], object], said: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, said()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.slurm
def test_servers_die_and_the_judge_comes_late(judge: FaultyModelServer, store: Store) -> None:
    *shares, score = steps(store, judge)
    judge.out_of_order = True
    run(score, store)
    wait_until(lambda: "user" in causes(score, store), store.of(score).attempts)
    assert [causes(share, store) for share in shares] == [["server lost", "done"]] * SHARES
    (first,) = store.of(score).attempts()
    assert "nothing was answered for" in (first.message or "") and not store.of(score).done
    judge.out_of_order = False
    run(score, store)
    wait_until(lambda: causes(score, store) == ["user", "done"], store.of(score).attempts)

    for share in shares:
        out = store.of(share).out
        assert len(lines(out / "replies.jsonl")) == CELLS
        assert [each.requests for each in spent(out / "_replies").values()] == [CELLS], "none was answered twice"
    assert set(judge.paid.values()) == {1}, "nor judged twice"
    found = Counter(score.metric for score in scores_in(store.of(score).out) if score.missing is None)
    assert found["executed"] == SAMPLES * CELLS and found["verdict"]
