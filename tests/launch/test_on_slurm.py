"""The Slurm launcher on a real cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from msm_hpc.config.cluster import Cluster, Resources, Work, WorkClasses
from msm_hpc.launch.job import JobRef, current_job, user_name
from msm_hpc.launch.launcher import launcher_of, launcher_of_job, living
from msm_hpc.launch.request import ArrayRequest
from tests.slurm_tools import why_no_cluster

CLUSTER = Cluster(launcher="slurm", resources=WorkClasses(cpu=Resources(memory_gb=0.5, time_minutes=5)))
SECONDS = 120


def wait(folder: str, name: str) -> None:
    """The job: notes who it is, and waits."""
    (Path(folder) / f"{name}.partial").write_text(json.dumps(asdict(current_job())))
    (Path(folder) / f"{name}.partial").rename(Path(folder) / f"{name}.json")
    time.sleep(SECONDS)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.slurm
def test_an_array_submitted_from_inside_a_job_runs_and_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := why_no_cluster():
        pytest.skip(reason)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "300")  # the fault: srun refuses it beside the job's own --mem
    request = ArrayRequest(
        name="msm-demo-x", work=Work("cpu"), function=wait, given=(str(tmp_path),), each=(("a",), ("b",))
    )
    jobs = launcher_of(CLUSTER).submit(tmp_path / "jobs", request)
    assert living(jobs) == frozenset(jobs)
    until(lambda: all((tmp_path / f"{name}.json").exists() for name in "ab"))
    for name, submitted in zip("ab", jobs, strict=True):
        running = JobRef(**json.loads((tmp_path / f"{name}.json").read_text()))
        assert (running.id, running.user) == (submitted.id, user_name())
        assert running.cluster == submitted.cluster != ""
        assert running.started > submitted.started - 5
    launcher_of_job(jobs[0]).cancel(jobs[:1])
    until(lambda: living(jobs) == frozenset(jobs[1:]))
    launcher_of_job(jobs[1]).cancel(jobs)
    until(lambda: not living(jobs))
