"""Nodes that a job is told to leave out, and those that are down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.launch.slurm_nodes import nodes_of
from tests.commands import Commands

ROWS = [f"main* n{number}" for number in range(8)] + ["small g1", "small g2", "small n1"]
SINFO = f"printf '%s\\n' {' '.join(map(repr, ROWS))}"
REQUEST = ArrayRequest(name="x", work=Work("cpu"), function=print, each=(("x",),))
JOB = JobRef("slurm", "64_1")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    nodes_of.cache_clear()
    yield
    nodes_of.cache_clear()


def excluded(request: ArrayRequest, folder: Path, **resources: object) -> str | None:
    cluster = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(**resources)))  # type: ignore[arg-type]
    script = SlurmLauncher(cluster).render(folder, request)
    found = [line.partition("--exclude=")[2] for line in script.splitlines() if "--exclude=" in line]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("avoid", "partition", "nodes", "expected"),
    [
        ((), None, 1, None),
        (("n2",), None, 1, "n2"),
        (("gone", "n2", "g1"), None, 1, "n2"),  # sbatch refuses names that it does not know
        (("n5", "n4", "n3", "n2"), None, 1, "n5,n4,n3"),  # the cluster is not taken away node by node
        (("g1", "g2", "n1"), "small", 1, "g1"),  # of three nodes
        (("g1",), "small", 3, None),  # all are needed
        (("g1",), "elsewhere", 1, None),
    ],
)
def test_what_a_script_leaves_out(
    commands: Commands, tmp_path: Path, avoid: tuple[str, ...], partition: str | None, nodes: int, expected: str | None
) -> None:
    commands(sinfo=SINFO)
    request = replace(REQUEST, avoid=avoid, nodes=nodes)
    assert excluded(request, tmp_path, partition=partition) == expected


def test_what_the_site_leaves_out_stays(commands: Commands, tmp_path: Path) -> None:
    commands(sinfo=SINFO)
    assert excluded(replace(REQUEST, avoid=("n2",)), tmp_path, sbatch={"exclude": "n7"}) == "n7,n2"


def test_without_slurm_a_script_can_be_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    assert excluded(replace(REQUEST, avoid=("n2",)), tmp_path) is None


SHOWN = {
    "NodeName=n1 Arch=x CoresPerSocket=1 State=IDLE Owner=N/A": {},
    "NodeName=n1 Arch=x State=DOWN Owner=N/A Reason=lost [root@2026]": {"n1": "scontrol: node n1 is DOWN (lost)"},
    "NodeName=n1 Arch=x State=IDLE* Owner=N/A": {"n1": "scontrol: node n1 is IDLE*"},
    "NodeName=n1 State=IDLE+NOT_RESPONDING Owner=N/A": {"n1": "scontrol: node n1 is IDLE+NOT_RESPONDING"},
    "NodeName=n1 State=MIXED+DRAIN Owner=N/A Reason=soon [root@2026]": {},
    "NodeName=n1 State=IDLE+CLOUD+POWERED_DOWN Owner=N/A": {},
    "Node n1 not found": {},
}


@pytest.mark.parametrize("shown", SHOWN)
def test_which_nodes_are_down(commands: Commands, shown: str) -> None:
    calls = commands(scontrol=f"echo '{shown}'")
    assert SlurmLauncher(Cluster(launcher="slurm")).down(["n1.cluster.example"]) == SHOWN[shown]
    assert calls.read_text() == "scontrol --oneliner show node n1\n"


@pytest.mark.parametrize(("own", "expected"), [("(null)", "n2"), ("n7", "n7,n2")])
def test_a_requeued_job_waits_and_leaves_out_the_node(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, own: str, expected: str
) -> None:
    monkeypatch.setenv("SLURM_JOB_PARTITION", "main")
    calls = commands(sinfo=SINFO, scontrol=f"echo 'JobId=64 ReqNodeList=n9 ExcNodeList={own} NodeList=n2'")
    assert SlurmLauncher(Cluster(launcher="slurm")).requeue(JOB, 300.0, ["n2"])
    asked = [line for line in calls.read_text().splitlines() if line.startswith("scontrol")]
    assert asked[1] == "scontrol requeue 64_1"
    assert asked[-1] == f"scontrol update JobId=64_1 StartTime=now+300 ExcNodeList={expected}"


def test_a_requeued_job_does_not_leave_out_so_many_nodes_that_it_never_runs(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_PARTITION", "main")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    others = ",".join(name for partition, name in map(str.split, ROWS) if partition == "main*" and name != "n2")
    calls = commands(sinfo=SINFO, scontrol=f"echo 'JobId=64 ExcNodeList={others} NodeList=n2'")
    assert SlurmLauncher(Cluster(launcher="slurm")).requeue(JOB, avoid=["n2"])
    assert "scontrol update" not in calls.read_text()


def test_a_job_that_slurm_has_put_back_itself_is_requeued(commands: Commands) -> None:
    commands(scontrol="echo 'Job is pending execution for job 64' >&2; exit 1")
    assert SlurmLauncher(Cluster(launcher="slurm")).requeue(JOB)
