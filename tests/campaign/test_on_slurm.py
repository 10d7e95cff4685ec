"""The demo campaign, shrunk, on a real Slurm cluster: arrays, dependencies, two-node TP2 x PP2 training, the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from msm_hpc.base.code import code_commit
from msm_hpc.campaign.auto_layout import settle
from msm_hpc.campaign.probing import probe
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.planner.probe import read_table
from msm_hpc.store.leases import leases
from msm_hpc.store.snapshots import snapshot_of
from msm_hpc.store.store import Store
from tests.campaign.held import check_ledger
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config
from tests.slurm_tools import Slurm, why_no_cluster

SECONDS = 900

OVERRIDES = [
    *SHRUNK,
    "campaign.arms=[init,msm+aft]",
    "campaign.specs=[{name: america}]",
    "campaign.contrast=[]",
    "campaign.values=[america]",
    "sources.instruction.rows=0",
    "cluster=slurm",
    "cluster.resources.cpu.memory_gb=1",
    "cluster.resources.cpu.time_minutes=30",
    "cluster.ranks_per_node=4",
    "tokenize.tasks=2",
    "stages.pretrain.layout.data_parallel=1",
    "stages.midtrain.layout.tensor_parallel=2",
    "stages.midtrain.layout.pipeline_parallel=2",
    "stages.midtrain.layout.nodes=2",
]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Slurm:
    if reason := why_no_cluster():
        pytest.skip(reason)
    return Slurm(tmp_path_factory.mktemp("slurm"))


@pytest.mark.slow
@pytest.mark.slurm
def test_the_demo_runs_as_job_arrays(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = [*OVERRIDES, f"root={slurm.folder}"]
    graph, store = graph_of(load_config(overrides)), Store(slurm.folder)

    assert main(["run", *overrides]) == 0
    assert "aftercorr" in capsys.readouterr().out
    jobs = {identity: job.id for identity, job in leases(graph.steps, store).items()}
    assert jobs.keys() == {step.identity for step in graph.steps}
    assert main(["run", *overrides]) == 0
    assert "Nothing to submit" in capsys.readouterr().out

    states = slurm.wait(set(jobs.values()), timeout=SECONDS)
    assert set(states.values()) == {"COMPLETED"}, _failures(graph, store)
    assert [path.name for path in (slurm.folder / "code").iterdir()] == [snapshot_of(slurm.folder).folder.name]
    assert len(states) < len(graph.steps), "jobs make several steps"

    _check_results(graph, store)
    assert check_ledger(graph.steps, store) == set(jobs.values())
    assert main(["run", *overrides]) == 0
    assert f"{len(graph.steps)} steps done, 0 running" in capsys.readouterr().out
    assert main(["report", *overrides]) == 0
    assert "missing" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.slurm
def test_a_probe_is_a_job_and_auto_goes_by_it(slurm: Slurm) -> None:
    small = [
        *SHRUNK,
        "cluster=slurm",
        "cluster.resources.cpu.memory_gb=1.5",
        "cluster.ranks_per_node=2",
        "stages.midtrain.layout=auto",
    ]
    config = load_config([*small, f"root={slurm.folder / 'probe'}"])
    graph = graph_of(config)
    folder, job = probe(config, graph, "midtrain", steps=2)
    assert job is not None
    ended = slurm.wait([job], timeout=SECONDS)
    assert set(ended.values()) == {"COMPLETED"}, (folder.parents[1] / "jobs" / f"{job}_0_log.err").read_text()[-2000:]
    assert len(read_table(folder)) == 3
    assert "the fastest of 3 that a probe measured" in settle([config], lambda: graph).choices[0]


def _check_results(graph: Graph, store: Store) -> None:
    for step in graph.steps:
        (attempt,) = store.of(step).attempts()
        assert (attempt.cause, attempt.job.launcher, attempt.ranks) == ("done", "slurm", step.ranks)
        assert attempt.job.cluster and attempt.job.user
        assert attempt.commit == code_commit(), "known by the copy of the code that jobs ran"
    summary = json.loads((store.of(graph.find("midtrain/america/msm+aft/seed0")).out / "summary.json").read_text())
    assert summary["world_size"] == 4
    cells = graph.report.config.cells
    assert len(cells) == 2
    page = (store.of(graph.report).out / "report.html").read_text()
    assert all(cell.step in page for cell in cells)


def _failures(graph: Graph, store: Store) -> str:
    """What the steps that did not end well said, for the assertion's message."""
    said = []
    for step in graph.steps:
        for attempt in store.of(step).attempts():
            if attempt.cause != "done":
                log = Path(attempt.log)
                tail = log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
                said.append(f"{step.name}: {attempt.cause} {attempt.message}\n{tail}")
    return "\n".join(said) or "no attempt failed"
