"""Trainings that Slurm interrupts end as if nothing had happened.

A node is lost and comes back with its processes, while Slurm runs their job elsewhere under the same id; or an
administrator puts a running job back into the queue.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from msm_hpc.base.progress import read_progress
from msm_hpc.campaign import holding
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.config.stages import GenerateConfig
from msm_hpc.config.training import Layout, TrainConfig, TrainInputs
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from msm_hpc.training.stage import run
from tests.slurm_tools import Slurm, lost, processes, why_no_cluster
from tests.training.toy import TWO_RANKS, Corpus, read_checkpoint, read_exact, write_inputs

CONFIG = replace(TWO_RANKS, layout=Layout(), epochs=4, save_every=10, micro_batch_size=8)
SECONDS = 300


def run_watchfully(root: str, step_id: str) -> None:
    """What the jobs call: :func:`run_step`, which looks once a second, not a half-minute, whether it lost the step."""
    with patch.object(holding, "SECONDS_BETWEEN_FENCE_CHECKS", 1.0):
        run_step(root, step_id)


def published(store: Store, name: str, result: Path) -> Step:
    """A step whose result is a copy of ``result``."""
    step = Step("generate", name, GenerateConfig(product=name), {})
    folder = store.of(step)
    store.register((step,))
    folder.write_attempt(1, Attempt(JobRef("local", "1"), "host", 1, None, "", now(), now(), "done"))
    shutil.copytree(result, folder.attempt(1).unready)
    folder.attempt(1).begin()
    folder.publish(folder.attempt(1))
    return step


def training(store: Store, inputs: TrainInputs, config: TrainConfig) -> Step:
    given = {"model": inputs.model, "plan": inputs.plan, "shards": inputs.shards["chats"]}
    steps = {name: published(store, name, folder) for name, folder in given.items()}
    return Step("train", "x", config, {**steps, "shards": {"chats": steps["shards"]}}, recipe="aft")


def wait_until(happened: Callable[[], object], folder: StepFolder) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, folder.attempts()
        time.sleep(0.2)


@dataclass(frozen=True)
class Running:
    """A training that was submitted, with what it reads."""

    folder: StepFolder
    inputs: TrainInputs
    job: JobRef

    def wait_for(self, attempt: int, steps: int) -> None:
        """Wait until the attempt has done so many steps."""
        out = self.folder.attempt(attempt).out
        wait_until(lambda: (progress := read_progress(out)) and progress.done > steps, self.folder)

    def check(self, folder: Path, config: TrainConfig) -> None:
        """Wait for its end, and compare its result with that of the same training in this process."""
        wait_until(lambda: self.folder.done, self.folder)
        assert {attempt.job.id for attempt in self.folder.attempts()} == {self.job.id}
        assert Slurm(folder).wait([self.job.id]) == {self.job.id: "COMPLETED"}
        assert self.folder.verify("the test") is None
        unbroken = folder / "unbroken"
        unbroken.mkdir()
        run(config, self.inputs, unbroken)
        assert read_exact(self.folder.out) == read_exact(unbroken)
        expected, found = (read_checkpoint(out / "checkpoint") for out in (unbroken, self.folder.out))
        assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)


def submit(folder: Path, config: TrainConfig, minutes: int = 20) -> Running:
    if reason := why_no_cluster():
        pytest.skip(reason)
    inputs, store = write_inputs(folder / "inputs", Corpus(documents=700)), Store(folder / "runs")
    step = training(store, inputs, config)
    store.register((step,))
    resources = WorkClasses(gpu_train=Resources(memory_gb=2, time_minutes=minutes))
    request = ArrayRequest(
        name="x", work=Work("gpu_train"), function=run_watchfully, given=(str(store.root),), each=((step.id,),)
    )
    (job,) = launcher_of(Cluster(launcher="slurm", resources=resources)).submit(store.jobs, request)
    store.of(step).write_lease(job)
    return Running(store.of(step), inputs, job)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_training_whose_node_is_lost_ends_elsewhere_as_if_nothing_had_happened(tmp_path: Path) -> None:
    running = submit(tmp_path, CONFIG)
    folder = running.folder
    running.wait_for(attempt=1, steps=20)
    first = folder.attempt(1).read()
    ranks = [each for each in processes(SLURM_JOB_ID=running.job.id, SLURM_PROCID="0") if "python" in each.name()]
    assert ranks
    with lost(first.host, ranks):
        running.wait_for(attempt=2, steps=20)
        for rank in ranks:
            rank.send_signal(signal.SIGCONT)
        wait_until(lambda: folder.attempt(1).read().end, folder)
        assert not folder.done, "both ran at once"
        running.check(tmp_path, CONFIG)
    first, second = folder.attempts()
    assert (first.cause, second.cause) == ("superseded", "done"), (first, second)
    assert first.host != second.host


@pytest.mark.slow
@pytest.mark.slurm
def test_a_training_that_an_administrator_requeues_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=2)
    running = submit(tmp_path, config)
    running.wait_for(attempt=1, steps=10)
    subprocess.run(["scontrol", "requeue", running.job.id], check=True)
    running.check(tmp_path, config)
    first, second = running.folder.attempts()
    assert (first.cause, second.cause) == ("preempted", "done"), (first, second)
    assert first.progressed and second.start > str(first.end)
