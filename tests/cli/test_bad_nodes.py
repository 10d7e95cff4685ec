"""Nodes that attempts lost, as commands see them: reported by a run, left out by its scripts, listed by questions."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msm_hpc.campaign import slurm_run
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.launch import slurm_commands, slurm_nodes
from msm_hpc.launch.job import JobRef
from msm_hpc.store.bad_nodes import bad_nodes, report_bad_node
from msm_hpc.store.records import Attempt, now
from msm_hpc.store.store import Store
from tests.toy_slurm import ToySlurm


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    toy = ToySlurm.start(tmp_path / "slurm")
    for name, said in {"sinfo": "'main* n%s\\n' 1 2 3 4 5 6", "sacct": "'64_1|NODE_FAIL|0:0|n3\\n'"}.items():
        (toy.folder / name).write_text(f"#!/bin/sh\nprintf {said}\n")
        (toy.folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", toy.path())
    monkeypatch.setattr(slurm_run, "SECONDS_UNTIL_ANSWERED", 0.0)
    for asked in (slurm_commands.settings, slurm_nodes.nodes_of):
        asked.cache_clear()
    yield toy
    for asked in (slurm_commands.settings, slurm_nodes.nodes_of):
        asked.cache_clear()


@pytest.mark.slow
def test_a_node_that_an_attempt_lost_is_left_out_until_it_is_taken_back(
    slurm: ToySlurm, tmp_path: Path, graph: Callable[..., Graph], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    root.mkdir()
    campaign = ("campaign=demo", "cluster=slurm", f"root={root}")
    step, store = next(iter(graph().needed(lambda step: False))), Store(root)
    job = JobRef("slurm", "64_1", started=1.0)
    store.register((step,))
    store.of(step).write_attempt(1, Attempt(job, "n3", 1, None, "", now()))
    store.of(step).write_lease(job)
    report_bad_node(root, "n5", "2 of 8 GPUs answer")

    assert main(["run", *campaign]) == 0
    said = capsys.readouterr().out
    assert f"Run again after node: 1 step ({step.name}): the node was lost, not the work" in said
    assert "Note: jobs leave out node n3 for 24 h: sacct: NODE_FAIL of job 64_1. To use it again: `rm " in said
    assert [node.name for node in bad_nodes(root)] == ["n3", "n5"]

    slurm.end(*slurm.queue())
    assert main(["plan", "--scripts", *campaign]) == 0
    said = capsys.readouterr().out
    assert said.count("\n#SBATCH --exclude=n3,n5\n") == said.count("#SBATCH --job-name")

    assert main(["status", *campaign]) == 0
    said = capsys.readouterr().out
    assert "node n5 for 24 h: 2 of 8 GPUs answer" in said
    take_back = said.partition("node n3")[2].partition("`")[2].partition("`")[0]
    subprocess.run(take_back, shell=True, check=True)
    assert [node.name for node in bad_nodes(root)] == ["n5"]
