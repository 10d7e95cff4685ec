"""Scripts that NeMo-Run writes, held against golden files; and one array of them on a real cluster, in no container.

To accept a change: ``MSM_ACCEPT_GOLDEN=1 pytest tests/launch/test_nemo_run.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster
from msm_hpc.launch.job import JobRef, current_job
from msm_hpc.launch.launcher import launcher_of, living
from msm_hpc.launch.logs import tail
from msm_hpc.launch.ranks import current_ranks
from tests.composed import load_config
from tests.launch.nemo_run_scripts import SCRIPTS
from tests.launch.test_slurm_scripts import ONE
from tests.slurm_tools import why_no_cluster

FOLDER = Path(sys.prefix) / "nemo-run"
GOLDEN = Path(__file__).parent / "golden" / "nemo_run"
needs_nemo_run = pytest.mark.skipif(not FOLDER.exists(), reason=f"needs NeMo-Run in {FOLDER}; `make lint` installs it")


def with_nemo_run(module: str, *arguments: str) -> str:
    """What a module prints in a process that has NeMo-Run, too."""
    path = os.pathsep.join((os.environ["PYTHONPATH"], str(FOLDER)))
    called = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(called, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        found: dict[str, str] = json.loads(with_nemo_run("tests.launch.nemo_run_scripts"))
        return found


@pytest.mark.slow
@needs_nemo_run
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_as_agreed(written: dict[str, str], name: str) -> None:
    golden = GOLDEN / f"{name}.sh"
    if os.environ.get("MSM_ACCEPT_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(written[name])
    assert written[name] == golden.read_text()
    subprocess.run(["bash", "-n"], input=written[name], text=True, check=True)


@pytest.mark.slow
@needs_nemo_run
def test_what_nemo_run_does_not_know_or_would_replace_is_refused(written: dict[str, str]) -> None:
    assert written["unknown"].startswith(
        "cluster.nemo_run.executor.segments: no field of SlurmExecutor to be set here; "
    )
    assert written["said elsewhere"] == "cluster.nemo_run.executor.account: set it by cluster.resources"
    assert written["its own folder"].startswith("refused: /nemo_run is in a path of ")
    assert not written["its own folder in a container"].startswith("refused")


def test_without_nemo_run_a_profile_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nemo_run", None)
    launcher = launcher_of(load_config(["campaign=demo", "cluster=nemo_run"]).cluster)
    (problem,) = launcher.profile_problems()
    assert problem.startswith("cluster.launcher=nemo_run needs NeMo-Run") and "pip install 'nemo_run>=0.11" in problem
    with pytest.raises(UserError, match="needs NeMo-Run"):
        launcher.render(Path("/shared/jobs"), ONE)


def note(folder: str, name: str) -> None:
    """The job: each rank notes who it is."""
    said = json.dumps({"job": asdict(current_job()), "where": os.getcwd()})
    (Path(folder) / f"{name}.{current_ranks().rank}.json").write_text(said)
    print(f"{name} was here")


@pytest.mark.slow
@pytest.mark.slurm
@needs_nemo_run
def test_an_array_of_two_ranks_runs_on_a_cluster(tmp_path: Path) -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    said = with_nemo_run("tests.launch.submit_with_nemo_run", str(tmp_path))
    jobs = [JobRef(**each) for each in json.loads(said)]
    assert [job.launcher for job in jobs] == ["slurm", "slurm"]
    deadline = time.monotonic() + 120
    while living(jobs):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    for name, job in zip("ab", jobs, strict=True):
        for rank in (0, 1):
            noted = json.loads((tmp_path / f"{name}.{rank}.json").read_text())
            assert noted["job"]["id"] == job.id and noted["where"] == str(tmp_path / "code")
            assert f"{name} was here" in tail(tmp_path / "jobs" / f"{job.id}_{rank}_log.out")
    ends = launcher_of(Cluster(launcher="slurm")).ends(jobs)
    assert {end.state for end in ends.values()} <= {"COMPLETED"}
