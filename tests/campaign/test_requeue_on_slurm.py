"""A job warned of its time limit goes back into the queue under its id, and ends its steps the second time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from msm_hpc.base.stopping import noticed
from msm_hpc.campaign.runner import run_steps
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store.store import Store
from msm_hpc.training.watch.signals import stopped
from tests.slurm_tools import Slurm, why_no_cluster

STEP = Step("export", "x", ExportConfig(), {})
FIRST = Step("export", "ahead of it", ExportConfig(dtype="float32"), {})
SIGNALS = Step("export", "has a signal come", ExportConfig(dtype="bfloat16"), {})
LAST = Step("generate", "last", GenerateConfig(product="pairs", count=1), {})
SECONDS = 240


def make(root: str, *step_ids: str) -> None:
    """What the job calls: :func:`run_steps` of a stage that waits for a signal, and is done when it is run again."""

    def stage(config: ExportConfig, inputs: object, out: Path) -> None:
        if (out / "saved").exists() or config in (FIRST.config, LAST.config):
            return
        if config == SIGNALS.config:
            os.kill(os.getppid(), signal.SIGUSR2)  # noticed once this step has ended
            return
        with noticed() as request:
            (out / "waits").touch()
            while not request.received:
                time.sleep(0.1)
        (out / "saved").touch()
        raise stopped(request.received, done=4, steps=9, began=0)

    def carry_over(earlier: Sequence[Path], out: Path) -> None:
        for folder in earlier:
            shutil.copytree(folder, out, dirs_exist_ok=True)

    kind = kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, "", carry_over="")
    quick = kinds.Kind(kinds.KINDS["generate"].version, GenerateConfig, dict, "", carry_over="")
    with (
        patch.dict(kinds.KINDS, {"export": kind, "generate": quick}),
        patch.object(kinds.Kind, "load", lambda kind: stage),
        patch.object(kinds.Kind, "load_carry_over", lambda kind: carry_over),
    ):
        run_steps(root, *step_ids)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("ahead", [(), (FIRST,)], ids=["a step", "the second of its steps"])
def test_a_job_warned_of_its_limit_runs_again_under_its_id(tmp_path: Path, ahead: tuple[Step, ...]) -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    store = Store(tmp_path)
    folder = store.of(STEP)
    steps = (*ahead, STEP)
    store.register(steps)
    cluster = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(memory_gb=1.5, time_minutes=5)))
    request = ArrayRequest(
        name="x", work=Work("cpu"), function=make, given=(str(store.root),), each=(tuple(step.id for step in steps),)
    )
    (job,) = launcher_of(cluster).submit(store.jobs, request)
    folder.write_lease(job)
    deadline = time.monotonic() + SECONDS
    while not (folder.partial / "waits").exists():
        assert time.monotonic() < deadline, "the job did not start"
        time.sleep(0.2)
    subprocess.run(["scancel", "--signal=USR2", job.id], check=True)  # as Slurm does ahead of the limit
    while not folder.done:
        assert time.monotonic() < deadline, folder.attempts()
        time.sleep(0.2)
    assert [attempt.cause for attempt in folder.attempts()] == ["timeout", "done"]
    assert all(len(store.of(step).attempts()) == 1 for step in ahead)
    assert {attempt.job.id for attempt in folder.attempts()} == {job.id}
    first, second = (attempt.job.started for attempt in folder.attempts())
    assert job.started - 5 < first < second, "the two runs of a requeued job can be told apart"
    assert Slurm(tmp_path).wait([job.id]) == {job.id: "COMPLETED"}


@pytest.mark.slow
@pytest.mark.slurm
def test_a_signal_between_two_steps_of_several_ranks_is_not_lost(tmp_path: Path) -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    store, steps = Store(tmp_path), (FIRST, SIGNALS, LAST)
    store.register(steps)
    cluster = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(memory_gb=1.5, time_minutes=5)))
    items = tuple(step.id for step in steps)
    request = ArrayRequest(
        name="x", work=Work("cpu"), function=make, given=(str(store.root),), each=(items,), ranks_per_node=2
    )
    (job,) = launcher_of(cluster).submit(store.jobs, request)
    assert Slurm(tmp_path).wait([job.id], timeout=SECONDS) == {job.id: "COMPLETED"}
    causes = [[attempt.cause for attempt in store.of(step).attempts()] for step in steps]
    assert causes == [["done"], ["done"], ["timeout", "done"]]
