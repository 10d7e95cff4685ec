from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from msm_hpc.campaign import array_requests
from msm_hpc.launch import slurm_commands, slurm_nodes
from msm_hpc.store.snapshots import keep_code
from tests.campaign.drills import stages
from tests.campaign.drills.campaign import PREPARED, Campaign, copied, made_here
from tests.slurm_tools import another_cluster, why_no_cluster


@pytest.fixture(scope="package", autouse=True)
def cluster_of_their_own() -> Iterator[None]:
    """Where there is one for other tests, which go on beside drills that take nodes and the controller away."""
    if reason := why_no_cluster():
        pytest.skip(reason)
    with another_cluster():
        yield


@pytest.fixture(scope="package")
def prepared(cluster_of_their_own: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with the corpora, packs and starting model of the drills, made without Slurm, and the code for jobs."""
    campaign = Campaign(tmp_path_factory.mktemp("prepared") / "runs")
    made_here(campaign, [step for step in campaign.graph.steps if step.stage in PREPARED])
    keep_code(campaign.root)
    return campaign.root


@pytest.fixture(autouse=True)
def jobs_run_the_stages_of_drills(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(array_requests, "run_steps", stages.run_steps)
    for asked in (slurm_commands.settings, slurm_nodes.nodes_of):
        asked.cache_clear()
    yield
    for asked in (slurm_commands.settings, slurm_nodes.nodes_of):
        asked.cache_clear()


@contextlib.contextmanager
def _as_in_a_test() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]), prepend=":")
        patch.setattr(array_requests, "run_steps", stages.run_steps)
        yield


@pytest.fixture(scope="package")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    """The results of the campaign where nothing happens to it."""
    with _as_in_a_test():
        campaign = copied(prepared, tmp_path_factory.mktemp("undisturbed") / "runs")
        campaign.run()
        campaign.until_over()
    assert campaign.causes() == {}
    assert None not in campaign.results().values()
    return campaign.results()


@pytest.fixture(scope="package")
def limited(
    undisturbed: Mapping[str, object], prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Campaign]:
    """A campaign whose fine-tunings may take a minute, of which one is held: other drills fill the time."""
    minute = "cluster.resources.of_stage.aft={time_minutes: 1, sbatch: {nodelist: n1}}"
    with _as_in_a_test():
        campaign = copied(prepared, tmp_path_factory.mktemp("limited") / "runs", minute)
        campaign.hold("aft/base/seed0")
        campaign.run()
    yield campaign
    if left := campaign.queue():
        subprocess.run(["scancel", *left], check=True)


@pytest.fixture
def campaign(prepared: Path, tmp_path: Path) -> Callable[..., Campaign]:
    """A campaign that is about to run, with further overrides."""
    return lambda *more: copied(prepared, tmp_path / "runs", *more)
