"""Steps that run side by side on a node of a real Slurm: at the same time, each with an end of its own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from msm_hpc.base.stopping import noticed
from msm_hpc.campaign.runner import run_steps
from msm_hpc.campaign.views.ledger import ledger, tries_at
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.request import BESIDE, ArrayRequest
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from msm_hpc.training.watch.signals import stopped
from tests.slurm_tools import Slurm, why_no_cluster

ONE, OTHER = (Step("export", dtype, ExportConfig(dtype=dtype), {}) for dtype in ("float32", "bfloat16"))
READER = Step("generate", "reads one", GenerateConfig(product="pairs", count=1), {"one": ONE})
STEPS, SECONDS = 9, 200.0
"""What an export counts, and how long its first start waits in the middle."""


def count(config: ExportConfig, inputs: object, out: Path) -> None:
    """Count on from where the last start was stopped; the first one stops, or waits, in the middle."""
    file = out / "counted"
    for number in range(len(file.read_text().split()) if file.exists() else 0, STEPS):
        with file.open("a") as opened:
            opened.write(f"{number}\n")
        if number == STEPS // 2:
            _wait_for_a_signal(number)


def _wait_for_a_signal(number: int) -> None:
    deadline = time.monotonic() + SECONDS
    with noticed() as request:
        while not request.received:
            assert time.monotonic() < deadline, "no signal came"
            time.sleep(0.1)
    raise stopped(request.received, done=number + 1, steps=STEPS, began=0)


def meet(config: ExportConfig, inputs: object, out: Path) -> None:
    """Wait for the other step, which must run now; then one is killed and the other makes its result."""
    here = Path(os.environ["SUBMITIT_FOLDER"], "here")
    here.with_suffix(f".{config.dtype}").touch()
    deadline = time.monotonic() + SECONDS
    while len(list(here.parent.glob("here.*"))) < 2:
        assert time.monotonic() < deadline, "the other step did not run"
        time.sleep(0.1)
    if config == ONE.config:
        os.kill(os.getpid(), signal.SIGKILL)
    (out / "counted").write_text("whole")


def carry_over(earlier: Sequence[Path], out: Path) -> None:
    for folder in earlier:
        shutil.copytree(folder, out, dirs_exist_ok=True)


def make_by(name: str, root: str, *step_ids: str) -> None:
    stage = globals()[name]
    kind = kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, f"{__name__}:{name}", carry_over="")
    with (
        patch.dict(kinds.KINDS, {"export": kind}),
        patch.object(kinds.Kind, "load", lambda kind: stage),
        patch.object(kinds.Kind, "load_carry_over", lambda kind: carry_over),
    ):
        run_steps(root, *step_ids)


def run_beside(store: Store, stage: str, minutes: int, *lanes: Sequence[Step]) -> tuple[str, str]:
    """Run chains side by side in a job with a time limit; returns its id and how it ended."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    store.register(tuple(step for lane in lanes for step in lane))
    first, *others = ([step.id for step in lane] for lane in lanes)
    items = (*first, *(item for lane in others for item in (BESIDE, *lane)))
    request = ArrayRequest(
        name="beside", work=Work("cpu"), function=make_by, given=(stage, str(store.root)), each=(items,), lanes=2
    )
    resources = WorkClasses(cpu=Resources(memory_gb=1.5, time_minutes=minutes))
    cluster = Cluster(launcher="slurm", exclusive=True, ranks_per_node=2, resources=resources)
    (job,) = launcher_of(cluster).submit(store.jobs, request)
    (state,) = Slurm(store.root).wait([job.id], timeout=300).values()
    return job.id, state


def attempts(store: Store, step: Step) -> list[Attempt]:
    return [*store.of(step).attempts()]


@pytest.mark.slow
@pytest.mark.slurm
def test_one_is_killed_and_the_other_ends_well(store: Store) -> None:
    job, state = run_beside(store, "meet", 10, [ONE, READER], [OTHER])
    assert state == "COMPLETED", "what reads the other is to run"
    assert store.done(OTHER) and not store.done(ONE)
    assert [each.cause for each in attempts(store, ONE)] == [None]
    assert [each.cause for each in attempts(store, READER)] == ["upstream"]
    logs = [Path(attempts(store, step)[0].log) for step in (ONE, OTHER)]
    assert [log.name for log in logs] == [f"{job}.{s.id.replace('/', '-')}_0_log.err" for s in (ONE, OTHER)]


@pytest.mark.slow
@pytest.mark.slurm
def test_at_the_time_limit_all_save_and_the_job_runs_again_once(store: Store) -> None:
    _, state = run_beside(store, "count", 1, [ONE], [OTHER])
    assert state == "COMPLETED"
    for step in (ONE, OTHER):
        *stopped_before, last = [each.cause for each in attempts(store, step)]
        assert {*stopped_before} == {"timeout"} and last == "done"
        assert (store.of(step).out / "counted").read_text().split() == [str(number) for number in range(STEPS)]
    first, second = (attempts(store, step)[0] for step in (ONE, OTHER))
    assert first.job_start == second.job_start
    assert max(first.start, second.start) < min(first.end or "", second.end or ""), "they ran at the same time"
    assert attempts(store, ONE)[1].job_start == attempts(store, OTHER)[1].job_start, "one requeue for both"
    spent = ledger(tries_at(map(store.of, (ONE, OTHER))), on_gpus=False)
    assert 0 < spent.hours(["idle in allocation"]) < spent.hours()
