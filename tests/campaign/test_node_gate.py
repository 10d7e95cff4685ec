"""Ahead of a training: unfit nodes are left, and a job is not put back into the queue for ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.node_gate import MOST_REQUEUES, check_nodes
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.launch.local import failed_ranks, start_local
from msm_hpc.launch.node_health import FILE, NodeHealth
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.store.bad_nodes import bad_nodes
from tests.commands import Commands
from tests.slurm_tools import Slurm, why_no_cluster

FLEET = [NodeHealth(f"n{number}", "cpu", 1, 5.0, None, 0.0) for number in range(4)]


def fleet(root: Path, **changed: float) -> None:
    lines = [json.dumps(asdict(replace(node, **changed))) for node in FLEET]
    (root / FILE).write_text("".join(f"{line}\n" for line in lines))


def test_fit_nodes_pass_and_are_remembered(tmp_path: Path) -> None:
    fleet(tmp_path, matmul=1e-9)
    check_nodes(str(tmp_path))
    assert len((tmp_path / FILE).read_text().splitlines()) == 5


@pytest.mark.parametrize("restarts", [0, MOST_REQUEUES])
def test_an_unfit_node_requeues_the_job_a_few_times(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: int
) -> None:
    calls = commands(scontrol="exit 0")
    fleet(tmp_path, matmul=1e9)
    monkeypatch.setattr("msm_hpc.campaign.node_gate.current_job", lambda: JobRef("slurm", "64_3", user="me"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    with pytest.raises(UserError, match=r"unfit[^\n]*: matmul at [^\n]* the median of 4 other nodes"):
        check_nodes(str(tmp_path))
    asked = calls.read_text() if calls.exists() else ""
    assert ("scontrol requeue 64_3" in asked) == (restarts == 0)


def test_what_a_look_at_the_node_finds_is_the_evidence_and_nothing_is_timed(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = commands(scontrol="exit 0", **{"nvidia-smi": "echo GPU-0"})
    monkeypatch.setattr("msm_hpc.campaign.node_gate.current_job", lambda: JobRef("slurm", "64_3", user="me"))
    for name, value in {"SLURMD_NODENAME": "n7", "SLURM_GPUS_ON_NODE": "2", "SLURM_RESTART_COUNT": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=r"runs again on other nodes, since these are unfit: n7: node_check.sh: gpus: 1"
    ):
        check_nodes(str(tmp_path))
    (bad,) = bad_nodes(tmp_path)
    assert bad.name == "n7"
    assert bad.reason.startswith("node_check.sh: gpus: 1 answer nvidia-smi, 2 needed. Fix: run nvidia-smi on ")
    assert "scontrol requeue 64_3" in calls.read_text()
    assert not (tmp_path / FILE).exists()


@pytest.mark.slow
def test_what_the_first_rank_of_a_node_finds_stops_all(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = commands(**{"nvidia-smi": "echo GPU-0"})
    for name, value in {"SLURM_GPUS_ON_NODE": "2", "SLURM_RESTART_COUNT": str(MOST_REQUEUES)}.items():
        monkeypatch.setenv(name, value)
    (log,) = failed_ranks(start_local(tmp_path / "jobs", 2, check_nodes, str(tmp_path)))
    assert re.search(rf"unfit nodes came {MOST_REQUEUES} times: [^\n]*: gpus: 1 answer nvidia-smi", log.read_text())
    assert len(calls.read_text().splitlines()) == 1, "only the first rank of a node looks at it"
    assert not (tmp_path / FILE).exists()


def test_a_node_that_cannot_write_into_the_root_is_left_all_the_same(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = commands(scontrol="exit 0")
    monkeypatch.setattr("msm_hpc.campaign.node_gate.current_job", lambda: JobRef("slurm", "64_3", user="me"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    with pytest.raises(UserError, match=r"unfit: [^\n]*: node_check.sh: folder: [^\n]* cannot write in /proc. Fix: "):
        check_nodes("/proc")  # read-only even for root
    assert "scontrol requeue 64_3" in calls.read_text()


@pytest.mark.slow
def test_ranks_of_a_node_are_measured_together(tmp_path: Path) -> None:
    assert failed_ranks(start_local(tmp_path / "jobs", 2, check_nodes, str(tmp_path))) == []
    (row,) = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert row["ranks"] == 2 and row["all_reduce"] > 0


def test_the_check_stands_ahead_of_the_job(tmp_path: Path) -> None:
    request = ArrayRequest(
        name="x",
        work=Work("gpu_train"),
        function=run_step,
        given=("/shared/my runs",),
        each=(("a",), ("b",)),
        gate=check_nodes,
    )
    lines = SlurmLauncher(Cluster(launcher="slurm")).render(tmp_path, request).splitlines()
    (ahead,) = (line for line in lines if "check_nodes" in line)
    assert ahead.startswith(
        "SUBMITIT_EXECUTOR=slurm srun --unbuffered --kill-on-bad-exit=1 --cpus-per-task=1 --wait=0 "
    )
    assert ahead.endswith(" msm_hpc.campaign.node_gate:check_nodes '/shared/my runs' || exit 1")
    assert lines.index(ahead) < next(number for number, line in enumerate(lines) if "run_step" in line)


@pytest.mark.slow
@pytest.mark.slurm
def test_on_slurm_an_unfit_node_is_left_and_a_fit_one_trains(tmp_path: Path) -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    fleet(tmp_path, matmul=1e9, ranks=2)
    cluster = Cluster(launcher="slurm", resources=WorkClasses(gpu_train=Resources(memory_gb=2, time_minutes=5)))
    request = ArrayRequest(
        name="x",
        work=Work("gpu_train"),
        function=note,
        given=(str(tmp_path),),
        each=(("ran",),),
        ranks_per_node=2,
        gate=check_nodes,
    )
    (job,) = launcher_of(cluster).submit(tmp_path / "jobs", request)
    show, deadline = ["scontrol", "show", "job", job.id], time.monotonic() + 200
    while "Restarts=1" not in (said := subprocess.run(show, check=True, capture_output=True, text=True).stdout):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
    assert [node.name for node in bad_nodes(tmp_path)] == [measured(tmp_path)[0].host]
    fleet(tmp_path, matmul=1e-9, ranks=2)
    assert Slurm(tmp_path).wait([job.id], timeout=200) == {job.id: "COMPLETED"}
    assert (tmp_path / "ran").read_text() == "1", "what a job counts its requeues by"
    assert [node.ranks for node in measured(tmp_path)] == [2]


def measured(root: Path) -> list[NodeHealth]:
    """What jobs have measured, behind what the test wrote."""
    return [NodeHealth(**json.loads(line)) for line in (root / FILE).read_text().splitlines()[len(FLEET) :]]


def note(root: str, name: str) -> None:
    """The job, where it is let run."""
    (Path(root) / name).write_text(os.environ["SLURM_RESTART_COUNT"])
