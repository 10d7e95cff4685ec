from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

# Read when torch is imported, here and in what tests start: workers share the cores, and threads that wait spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Read when Megatron is imported, as some tests do themselves: to compile one function for a CPU takes half a minute.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

from msm_hpc.campaign.preflight import built
from msm_hpc.graph.build import Graph
from msm_hpc.launch import slurm_commands
from msm_hpc.store import snapshots
from msm_hpc.store.store import Store
from tests.commands import Commands, put
from tests.composed import graph_of, load_config

IN_MEMORY, ENOUGH_BYTES = Path("/dev/shm"), 16 << 30
DRILLS = Path(__file__).parent / "campaign" / "drills"
SLURM = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sinfo", "srun", "salloc", "sacctmgr")


def pytest_configure() -> None:
    """Put the files of tests into memory where there is much of it: on disk, they wait for thousands of fsyncs."""
    if IN_MEMORY.is_dir():
        there = os.statvfs(IN_MEMORY)
        if there.f_bavail * there.f_frsize >= ENOUGH_BYTES and not there.f_flag & os.ST_NOEXEC:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of a cluster run one after another: some take a node away, or limit what a user may submit.

    Drills have a cluster of their own, and so go on beside the others.
    Where workers share the tests, files with slow ones come first: at the end all workers are busy with quick ones.
    """
    for item in items:
        if item.get_closest_marker("slurm"):
            item.add_marker(pytest.mark.xdist_group("drills" if DRILLS in item.path.parents else "slurm"))
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup() -> None:
    _freeze_what_is_imported("megatron.core" in sys.modules)


@functools.cache
def _freeze_what_is_imported(megatron: bool) -> None:
    """Megatron collects garbage at each checkpoint: looking through all modules takes longer than a test's training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def jobs_find_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs can import functions of these tests, wherever they start."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)


@pytest.fixture(scope="session")
def path_without_slurm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH as on a machine without Slurm: in place of each folder that has it, one of links to what else is there."""
    folders = os.environ["PATH"].split(os.pathsep)
    for number, folder in enumerate(folders):
        if (Path(folder) / "squeue").exists():
            folders[number] = str(tmp_path_factory.mktemp("bin"))
            for program in Path(folder).iterdir():
                if program.name not in SLURM:
                    (Path(folders[number]) / program.name).symlink_to(program)
    return os.pathsep.join(folders)


@pytest.fixture(autouse=True)
def no_cluster_but_where_one_is_tested(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, path_without_slurm: str
) -> None:
    """Others would ask the cluster about jobs that it never had, and hold profiles of large sites against it."""
    if not request.node.get_closest_marker("slurm"):
        monkeypatch.delenv("SLURM_CONF", raising=False)
        monkeypatch.setenv("PATH", path_without_slurm)


@pytest.fixture(autouse=True)
def code_is_not_copied(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is submitted to a toy Slurm never runs; copying the code takes a second."""
    if not request.node.get_closest_marker("slurm"):
        monkeypatch.setattr(snapshots, "PACKAGES", ())
        monkeypatch.setattr(snapshots, "code_commit", lambda: None)


@pytest.fixture(autouse=True)
def models_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is submitted, which takes ten seconds."""
    monkeypatch.setattr(built, "check_built", lambda *_: None)


@pytest.fixture
def graph() -> Callable[..., Graph]:
    """Builds the graph of the demo campaign with overrides."""
    return lambda *overrides: graph_of(load_config(["campaign=demo", *overrides]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Commands]:
    """Puts shell scripts into the PATH; returns the file where each of their calls is a line."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    slurm_commands.settings.cache_clear()
    yield partial(put, tmp_path)
    slurm_commands.settings.cache_clear()
