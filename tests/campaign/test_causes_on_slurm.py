"""On a real Slurm: a step that runs out of memory, and one whose node is lost and that runs again elsewhere."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from msm_hpc.base.stopping import noticed
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.slurm_run import plan_submission, submit
from msm_hpc.campaign.views.ends import Ended, ended
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch import slurm_commands, slurm_nodes
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store.bad_nodes import bad_nodes, report_bad_node
from msm_hpc.store.store import Store
from msm_hpc.training.watch.signals import stopped
from tests.slurm_tools import lost, why_no_cluster

STEP = Step("export", "x", ExportConfig(), {})
SECONDS = 90
CLUSTER = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(memory_gb=0.4, time_minutes=5)))


def make(stage: Callable[..., None], root: str, step_id: str) -> None:
    """What a job calls: :func:`run_step` with a stage that can resume, in the place of the real one."""

    def nothing(earlier: Sequence[Path], out: Path) -> None: ...

    kind = kinds.Kind(kinds.KINDS["export"].version, ExportConfig, dict, "", carry_over="of this test")
    with (
        patch.dict(kinds.KINDS, {"export": kind}),
        patch.object(kinds.Kind, "load", lambda kind: stage),
        patch.object(kinds.Kind, "load_carry_over", lambda kind: nothing),
    ):
        run_step(root, step_id)


def fill_the_memory(root: str, step_id: str) -> None:
    def stage(config: object, inputs: object, out: Path) -> None:
        (out / "begun").touch()
        filled = bytearray(2 << 30)
        time.sleep(60)
        assert filled

    make(stage, root, step_id)


def wait_for_the_second_start(root: str, step_id: str) -> None:
    def stage(config: object, inputs: object, out: Path) -> None:
        (out / "begun").touch()
        time.sleep(0 if out.parent.name == "002" else 120)

    make(stage, root, step_id)


def wait_for_a_signal(root: str, step_id: str) -> None:
    def stage(config: object, inputs: object, out: Path) -> None:
        (out / "begun").touch()
        with noticed() as request:
            while out.parent.name == "001":
                if request.received:
                    raise stopped(request.received, done=4, steps=9, began=0)
                time.sleep(0.1)

    make(stage, root, step_id)


def fail_of_a_gpu(root: str, step_id: str) -> None:
    def stage(config: object, inputs: object, out: Path) -> None:
        (out / "begun").touch()
        if out.parent.name == "001":
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    make(stage, root, step_id)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    if reason := why_no_cluster():
        pytest.skip(reason)
    for asked in (slurm_commands.settings, slurm_nodes.nodes_of):
        asked.cache_clear()
    yield


def submitted(store: Store, function: Callable[[str, str], None], nodes: int = 1) -> None:
    """Submit a job for the step, and wait until its stage has begun."""
    store.register((STEP,))
    request = ArrayRequest(
        name="x", work=Work("cpu"), function=function, given=(str(store.root),), each=((STEP.id,),), nodes=nodes
    )
    (job,) = launcher_of(CLUSTER).submit(store.jobs, request)
    store.of(STEP).write_lease(job)
    wait_until(lambda: (store.of(STEP).attempt(1).out / "begun").exists(), store)


def made(store: Store) -> bool:
    """Whether the step is done and its last attempt has recorded so, which comes after it."""
    return store.of(STEP).done and store.of(STEP).attempts()[-1].cause == "done"


def wait_until(happened: Callable[[], object], store: Store) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, store.of(STEP).attempts()
        time.sleep(0.2)


def how_it_ended(store: Store) -> Ended | None:
    jobs = holders([STEP], store)
    return None if jobs.alive(STEP) else ended(STEP, store, jobs)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.parametrize("accounting", [True, False])
def test_a_step_that_runs_out_of_memory_is_known_by_slurm_or_by_its_log(
    store: Store, accounting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(store, fill_the_memory)
    if not accounting:
        which = slurm_commands.shutil.which
        monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: None if name == "sacct" else which(name))
    wait_until(lambda: how_it_ended(store), store)
    end = how_it_ended(store)
    assert end is not None and end.cause == "oom", end
    assert "OUT_OF_MEMORY" in end.evidence or "exceeded memory limit" in end.evidence
    assert store.of(STEP).attempts()[-1].cause in (None, "cancelled")


@pytest.mark.slow
@pytest.mark.slurm
def test_a_lost_node_is_reported_and_left_out_by_the_next_submission(store: Store) -> None:
    submitted(store, wait_for_the_second_start)
    node = store.of(STEP).attempts()[0].host
    with lost(node):
        wait_until(lambda: made(store), store)
    (found,) = bad_nodes(store.root)
    assert found.name == node and "DOWN" in found.reason
    report_bad_node(store.root, "gone", "Slurm does not know it any more")
    report_bad_node(store.root, node, found.reason)

    other = Graph((Step("export", "other", ExportConfig(merge=True), {}),))
    _, (job,) = submit(lambda: plan_submission("drill", other, store, CLUSTER), store, CLUSTER, print)
    shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
    subprocess.run(["scancel", job], check=True)
    assert f" ExcNodeList={node}\n" in shown, shown


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_that_loses_one_of_its_nodes_says_which_and_runs_again(store: Store) -> None:
    submitted(store, wait_for_a_signal, nodes=2)
    first = store.of(STEP).attempts()[0]
    (other,) = {"n1", "n2"} - {first.host}
    with lost(other):
        wait_until(lambda: store.of(STEP).attempts()[0].end, store)
    wait_until(lambda: made(store), store)
    first, second = store.of(STEP).attempts()
    assert (first.cause, second.cause) == ("node", "done"), first
    assert first.evidence.startswith(f"scontrol: Restarts=1; scontrol: node {other} is DOWN")
    assert [node.name for node in bad_nodes(store.root)] == [other]


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_whose_node_has_a_broken_gpu_puts_itself_back_for_another(store: Store) -> None:
    submitted(store, fail_of_a_gpu)
    wait_until(lambda: made(store), store)
    first, second = store.of(STEP).attempts()
    assert (first.cause, second.cause, first.job.id) == ("node", "done", second.job.id)
    assert first.evidence == "RuntimeError: CUDA error: uncorrectable ECC error encountered"
    assert second.host != first.host, "it left out that node"
