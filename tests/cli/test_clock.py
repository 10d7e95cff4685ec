from __future__ import annotations

from dataclasses import replace

from msm_hpc.campaign.local_run import RunState
from msm_hpc.cli.clock import Clock
from msm_hpc.config.stages import GenerateConfig
from msm_hpc.config.training import TrainConfig
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import local_job
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

TRIED = Attempt(local_job(), "here", 1, None, "", "2026-01-01T00:00:00+00:00")


def training(stage: str, seed: int) -> Step:
    return Step("train", f"{stage}{seed}", TrainConfig(seed=seed), {}, recipe=stage)


def done(store: Store, step: Step, seconds: int) -> str:
    store.register((step,))
    attempt = replace(TRIED, end=f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}+00:00", cause="done")
    assert store.of(step).attempt(1).take(attempt)
    return step.identity


def test_a_short_training_is_not_expected_to_take_as_long_as_one_of_another_stage(store: Store) -> None:
    generate = Step("generate", "a", GenerateConfig(product="chats"), {})
    long, short = training("pretrain", 1), training("aft", 2)
    waiting = [training("aft", 3), training("aft", 4), training("midtrain", 5)]
    state = RunState(steps={step.identity: step for step in (long, short, generate, *waiting)})
    assert Clock(store).left(state) == "time left not known yet"
    state.done = {done(store, long, 600), done(store, short, 20), done(store, generate, 5)}
    state.pending = {step.identity: step for step in waiting}
    assert Clock(store).left(state) == "at least 45 s left"  # 20 s each, and the shortest for the stage not seen yet
