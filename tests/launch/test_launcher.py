"""Launchers asked about jobs and told to stop them; Slurm's commands are stand-ins that record their calls."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from signal import SIGTERM
from types import SimpleNamespace
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, NemoRun, Tunnel, Work
from msm_hpc.launch import nemo_run, nemo_tunnel, slurm_commands
from msm_hpc.launch.job import JobRef, local_job, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import ends, launcher_of, launcher_of_job, living, states
from msm_hpc.launch.local_processes import stop_when_orphaned
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import HIDDEN, SlurmLauncher
from tests.commands import Commands

ELSEWHERE = f"not-{socket.gethostname()}"
ONE = ArrayRequest(name="msm-demo-aft", work=Work("cpu"), function=print, each=(("x",),))


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


OTHER = JobRef("slurm", "64_1", user=user_name(), cluster="there")


def test_the_id_of_a_job_of_another_cluster_is_no_job_here(commands: Commands) -> None:
    calls = commands(
        squeue="echo '64_1|RUNNING|None'; echo '70|PENDING|Priority'",
        sacct="echo '64_1|FAILED'; echo '70|FAILED'",
        scancel="",
        scontrol="echo 'ClusterName = here'",
    )
    mine, launcher = JobRef("slurm", "70", user=user_name(), cluster="here"), SlurmLauncher(Cluster(launcher="slurm"))
    assert states([OTHER, mine]) == {OTHER: HIDDEN, mine: JobState("pending", "Priority")}
    assert {job: end.state for job, end in ends([OTHER, mine]).items()} == {mine: "FAILED"}
    launcher.withdraw([OTHER, mine])
    assert "scancel --quiet 70" in calls.read_text().splitlines()
    with pytest.raises(UserError, match="job 64_1 of cluster there cannot be cancelled from here"):
        launcher.cancel([OTHER, mine])
    assert "64" not in calls.read_text()


JOB = JobRef("slurm", "70")
BUSY = "echo 'slurm_load_jobs error: Socket timed out on send/recv operation' >&2; exit 1"


def busy(times: int, answer: str) -> str:
    """The body of a command that finds the controller too busy at first."""
    return f'echo . >> "$0.asked"; if [ $(wc -l < "$0.asked") -le {times} ]; then {BUSY}; fi; {answer}'


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between questions, which take no time here."""
    found: list[float] = []
    monkeypatch.setattr(slurm_commands.time, "sleep", found.append)
    return found


@pytest.mark.parametrize(
    ("ask", "name", "said", "answer"),
    [
        (lambda launcher: living([JOB]), "squeue", "echo '70|RUNNING|None'", {JOB}),
        (lambda launcher: launcher.submitted({"msm-1"}), "squeue", "echo '70 msm-1'", {"msm-1": "70"}),
        (lambda launcher: launcher.why_stopped(JOB, SIGTERM).cause, "scontrol", "echo PreemptTime=2026", "preempted"),
        (lambda launcher: launcher.requeue(JOB), "scontrol", "true", True),
        (lambda launcher: launcher.name, "scontrol", "echo ClusterName=here", "here"),
        (lambda launcher: launcher.cancel([JOB]), "scancel", "true", None),
    ],
)
def test_a_busy_controller_is_asked_again(
    commands: Commands, pauses: list[float], ask: Callable[[SlurmLauncher], Any], name: str, said: str, answer: Any
) -> None:
    commands(**{name: busy(2, said)})
    assert ask(SlurmLauncher(Cluster(launcher="slurm"))) == answer
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(("variables", "seconds"), [({}, 7), ({"SUBMITIT_EXECUTOR": "slurm"}, 300)])
def test_a_controller_that_stays_away_is_an_error_for_a_person_soon_and_for_a_job_after_minutes(
    commands: Commands,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    seconds: float,
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    commands(squeue=BUSY)
    with pytest.raises(UserError, match=r"squeue failed: .*Socket timed out.*; is the Slurm controller up\?"):
        living([JOB])
    assert sum(pauses) == seconds


def test_what_slurm_refuses_is_not_asked_again(commands: Commands, pauses: list[float]) -> None:
    commands(scontrol="echo 'Job has already finished' >&2; exit 1")
    assert not launcher_of_job(JOB).requeue(JOB)
    assert pauses == []


@pytest.mark.parametrize(
    "job", [JobRef("slurm", "64", cluster="here"), JobRef("slurm", "64", user="somebody")], ids=["cluster", "user"]
)
def test_what_slurm_did_not_say_is_unknown_and_asked_again(
    commands: Commands, pauses: list[float], job: JobRef
) -> None:
    commands(squeue="", scontrol=BUSY)
    assert states([job]) == {job: HIDDEN}
    commands(scontrol="echo ClusterName=here")
    assert states([job]) == {}


def test_where_slurm_does_not_say_which_cluster_this_is_nothing_is_submitted(
    commands: Commands, pauses: list[float], tmp_path: Path
) -> None:
    calls = commands(sbatch="echo Submitted batch job 64", scontrol=BUSY)
    with pytest.raises(UserError, match=r"scontrol failed: .*Socket timed out"):
        launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE)
    assert "sbatch" not in calls.read_text()


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
    commands(sbatch="echo Submitted batch job 64", scontrol="echo 'ClusterName = here'")
    before = time.time()
    (job,) = launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE)
    assert (job.id, job.cluster, job.user) == ("64", "here", user_name())
    assert abs(job.started - before) < 60


SITE = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine"}
ALLOCATION = {"SLURM_JOB_ID": "9", "SLURM_MEM_PER_CPU": "300", "SBATCH_MEM_BIND": "none", "SRUN_CPUS_PER_TASK": "4"}


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
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_"))]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    note = f"env | grep -E '^S(LURM|BATCH|RUN)_' | sort > {tmp_path}/environment; echo Submitted batch job 64"
    commands(sbatch=note, scontrol="")
    launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE)
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
    request = ArrayRequest(
        name="x", work=Work("cpu"), function=wait_to_be_stopped, each=((str(tmp_path),),), ranks_per_node=2
    )
    (job,) = launcher.submit(tmp_path / "jobs", request)
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


def test_slurms_commands_are_called_on_another_host_where_the_profile_has_a_tunnel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """NeMo-Run's tunnel is a stand-in here, that answers as a shell there would."""
    called: list[tuple[str, str]] = []
    answers = {"sbatch": "Submitted batch job 64", "squeue": "64|PENDING|Priority", "scontrol": "ClusterName = there"}

    class Ssh:
        def __init__(self, **settings: Any) -> None:
            assert (settings["host"], settings["user"]) == ("login", user_name())

        def run(self, command: str, warn: bool, in_stream: Any) -> Any:
            called.append((command, in_stream.read(1)))
            said = answers.get(command.split()[0], "")
            return SimpleNamespace(return_code=0 if said else 127, stdout=said, stderr="" if said else "not found")

    monkeypatch.setattr(nemo_tunnel, "load", lambda: SimpleNamespace(SSHTunnel=Ssh))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(SlurmLauncher, "render", lambda *_: "#!/bin/bash\nall of the script\n")
    slurm_commands.settings.cache_clear()
    tunnel = NemoRun(tunnel=Tunnel(host="login", user=user_name()))
    nemo_tunnel.reach_slurm_of(Cluster(launcher="nemo_run", nemo_run=tunnel))
    try:
        (job,) = launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE)
        assert (job.id, job.cluster) == ("64", "there")
        assert called[-1] == ("sbatch", "#!/bin/bash\nall of the script\n")
        assert states([job]) == {job: JobState("pending", "Priority")}
        assert ends([job]) == {}
    finally:
        nemo_tunnel.reach_slurm_of(Cluster(launcher="slurm"))
        slurm_commands.settings.cache_clear()
    with pytest.raises(UserError, match="sbatch is not on the PATH"):
        launcher_of(Cluster(launcher="slurm")).submit(tmp_path / "jobs", ONE)


def test_who_uses_a_tunnel_is_the_same_user_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nemo_run, "load", lambda: None)
    monkeypatch.setattr(nemo_run, "check_executor", lambda *_: None)
    cluster = Cluster(launcher="nemo_run", nemo_run=NemoRun(tunnel=Tunnel(host="login", user="somebody")))
    (problem,) = launcher_of(cluster).profile_problems()
    assert problem.startswith(f"cluster.nemo_run.tunnel.user=somebody, but here you are {user_name()}: ")
