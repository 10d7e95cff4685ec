"""Launchers asked about jobs and told to stop them; Slurm's commands are stand-ins that record their calls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster
from msm_hpc.launch.job import JobRef, local_job, user_name
from msm_hpc.launch.launcher import launcher_of, launcher_of_job, living
from msm_hpc.launch.local_processes import stop_when_orphaned
from msm_hpc.launch.request import ArrayRequest
from tests.commands import Commands

ELSEWHERE = f"not-{socket.gethostname()}"
ONE = ArrayRequest("msm-demo-aft", "cpu", 1, nodes=1, ranks_per_node=1)


def test_a_job_reference_survives_json() -> None:
    job = local_job()
    assert JobRef(**asdict(job)) == job
    assert (job.launcher, job.user, job.host) == ("local", user_name(), socket.gethostname())


@pytest.mark.parametrize(
    ("variables", "enclosing"),
    [
        ({}, ""),
        ({"SLURM_JOB_ID": "70"}, "70"),
        ({"SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, "70_3"),
    ],
)
def test_a_local_job_names_the_slurm_job_around_it(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], enclosing: str
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert local_job().slurm_job == enclosing


def test_jobs_of_all_launchers_are_asked_about_with_one_squeue(commands: Commands) -> None:
    calls = commands(squeue="printf '64_0|PENDING|Priority\n64_2|RUNNING|None\n80|COMPLETING|None\n'", scontrol="")
    mine = local_job()
    running, ended = JobRef("slurm", "64_2"), JobRef("slurm", "64_1")
    within, orphan = JobRef("local", "5", ELSEWHERE, slurm_job="80"), JobRef("local", "5", ELSEWHERE, slurm_job="81")
    alone = JobRef("local", "5", ELSEWHERE)
    assert living([mine, running, ended, within, orphan, alone]) == {mine, running, within, alone}
    assert calls.read_text().splitlines() == ["squeue --noheader --array --format=%i|%T|%r --jobs=64,80,81"]


def test_where_slurm_cannot_be_asked_a_local_job_elsewhere_counts_as_living(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    job = JobRef("local", "5", ELSEWHERE, slurm_job="81")
    assert living([job]) == {job}


@pytest.mark.parametrize(
    ("job", "private", "alive"),
    [
        (JobRef("slurm", "64", cluster="here"), "none", False),
        (JobRef("slurm", "64", cluster="there"), "none", True),
        (JobRef("slurm", "64", user="somebody"), "none", False),
        (JobRef("slurm", "64", user="somebody"), "jobs,usage", True),
        (JobRef("slurm", "64", user=user_name(), cluster="here"), "jobs,usage", False),
    ],
)
def test_a_job_that_squeue_would_not_show_counts_as_living(
    commands: Commands, job: JobRef, private: str, alive: bool
) -> None:
    settings = f"echo 'ClusterName             = here'; echo 'PrivateData             = {private}'"
    commands(squeue="echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", scontrol=settings)
    assert living([job]) == (frozenset({job}) if alive else frozenset())


def test_slurm_jobs_are_cancelled_with_one_scancel(commands: Commands) -> None:
    calls = commands(scancel="")
    jobs = [JobRef("slurm", "64_1"), JobRef("slurm", "7")]
    launcher_of_job(jobs[0]).cancel(jobs)
    assert calls.read_text().splitlines() == ["scancel --quiet 64_1 7"]


def test_a_refused_requeue_is_reported(commands: Commands) -> None:
    job = JobRef("slurm", "64")
    commands(scontrol="echo 'Job has already finished' >&2; exit 1")
    assert not launcher_of_job(job).requeue(job)
    commands(scontrol="")
    assert launcher_of_job(job).requeue(job)
    assert not launcher_of_job(local_job()).requeue(local_job())


def test_what_a_submitted_job_is_known_by(commands: Commands, tmp_path: Path) -> None:
    commands(srun="", sbatch="echo Submitted batch job 64", scontrol="echo 'ClusterName = here'")
    before = time.time()
    (job,) = launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE, print, [("x",)])
    assert (job.id, job.cluster, job.user) == ("64", "here", user_name())
    assert abs(job.started - before) < 60


SITE = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine"}
ALLOCATION = {"SLURM_JOB_ID": "9", "SLURM_MEM_PER_CPU": "300", "SBATCH_MEM_BIND": "none"}


@pytest.mark.parametrize(
    ("variables", "reached"),
    [
        (SITE, ["SBATCH_ACCOUNT=mine", "SLURM_CONF=/etc/slurm.conf"]),
        (SITE | ALLOCATION, ["SLURM_CONF=/etc/slurm.conf"]),
    ],
)
def test_a_job_submitted_from_inside_another_takes_nothing_over(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reached: list[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    note = f"env | grep -E '^S(LURM|BATCH)_' | sort > {tmp_path}/environment; echo Submitted batch job 64"
    commands(srun="", sbatch=note, scontrol="")
    launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE, print, [("x",)])
    assert (tmp_path / "environment").read_text().split() == reached
    assert all(os.environ[name] == value for name, value in variables.items())


def wait_to_be_stopped(folder: str) -> None:
    """The job: each rank says that it runs, and that Ctrl-C reached it."""
    from signal import SIGTERM

    from msm_hpc.launch.ranks import current_ranks

    stop_when_orphaned(SIGTERM)
    rank = current_ranks().rank
    (Path(folder) / f"running{rank}").touch()
    try:
        time.sleep(120)
    except KeyboardInterrupt:
        (Path(folder) / f"stopped{rank}").touch()


@pytest.mark.slow
def test_a_cancelled_local_job_stops_in_all_ranks(tmp_path: Path) -> None:
    launcher = launcher_of(Cluster(launcher="local"))
    request = ArrayRequest("x", "cpu", 1, nodes=1, ranks_per_node=2)
    (job,) = launcher.submit(tmp_path / "jobs", request, wait_to_be_stopped, [(str(tmp_path),)])
    assert living([job]) == {job}
    deadline = time.monotonic() + 120
    while not all((tmp_path / f"running{rank}").exists() for rank in (0, 1)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    launcher.cancel([job])
    while launcher.states([job]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert all((tmp_path / f"stopped{rank}").exists() for rank in (0, 1))
    launcher.cancel([job])


def test_a_process_outside_of_a_job_is_cancelled_alone() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    job = local_job(process.pid)
    launcher_of_job(job).cancel([job])
    assert process.wait(60) != 0


def test_a_process_of_another_host_cannot_be_cancelled() -> None:
    job = JobRef("local", "5", ELSEWHERE)
    with pytest.raises(UserError, match=f"processes of {ELSEWHERE} cannot be stopped from here"):
        launcher_of_job(job).cancel([job])
