"""The reference to a job that is kept in files, and the job that this process belongs to."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache

import psutil
import submitit

from msm_hpc.config.cluster import LauncherName

RUN = "MSM_RUN"
"""The variable that tells the ranks of a job which start of it they belong to: a requeued job keeps its id."""


@dataclass(frozen=True)
class JobRef:
    """A job that can be asked about later, also by another process on another day.

    ``id`` is Slurm's (``64_3`` for an array element), or the process id of a local job. Both may be used again:
    ``started``, ``user`` and, for Slurm, ``cluster`` tell such jobs apart. A local job that was started within a
    Slurm job names it in ``slurm_job``: when that is gone, so is the process, whichever host it was on.

    ``started`` is when the job's process (rank 0) started, in seconds since the epoch: a requeued job keeps its id, and
    its runs differ in this. Of a job that had not started yet when the reference was made, it is the submission time.
    """

    launcher: LauncherName
    id: str
    host: str = ""
    started: float = 0.0
    user: str = ""
    cluster: str = ""
    slurm_job: str = ""


def same_job(one: JobRef, other: JobRef) -> bool:
    """Whether both are the same job, which may have been requeued in between.

    A process of another host and a job of another Slurm cluster are others, even if they have the same id.
    """
    where = ("launcher", "id", "cluster" if one.launcher == "slurm" else "host")
    return all(getattr(one, name) == getattr(other, name) for name in where)


def current_job() -> JobRef:
    """The Slurm job that this process belongs to; elsewhere the process itself."""
    try:
        job = submitit.JobEnvironment()
    except RuntimeError:
        return local_job()
    if job.cluster != "slurm":
        return local_job()
    started = psutil.Process().create_time()
    return JobRef("slurm", job.job_id, socket.gethostname(), started, user_name(), _cluster_name())


def local_job(pid: int | None = None) -> JobRef:
    """A process of this machine, by default this one, as a job."""
    process = psutil.Process(pid)
    return JobRef(
        "local",
        str(process.pid),
        socket.gethostname(),
        process.create_time(),
        user_name(),
        _cluster_name(),
        _enclosing_slurm_job(),
    )


def inside_job() -> bool:
    """Whether this process is a rank of a job that was submitted by us, here or to Slurm."""
    return "SUBMITIT_EXECUTOR" in os.environ


def current_start() -> str:
    """This start of the job: the same on all its ranks, and another where the job is requeued under its id."""
    return os.environ.get(RUN, f"process {os.getpid()}")


def current_node() -> str:
    """The name that Slurm has for the node of this process; elsewhere that of the host."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def is_elsewhere(job: JobRef) -> bool:
    """Whether a local job is a process of another host."""
    return job.host != socket.gethostname()


def is_running(job: JobRef) -> bool:
    """Whether the process of a local job runs; yes where it is on another host and cannot be asked about."""
    if is_elsewhere(job):
        return True
    try:
        process = psutil.Process(int(job.id))
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - job.started) < 1
    except psutil.NoSuchProcess:
        return False


def user_name() -> str:
    """The name of this process's user, as Slurm knows it."""
    return os.environ.get("SLURM_JOB_USER") or _name_of(os.getuid())


@cache
def _name_of(_uid: int) -> str:
    return psutil.Process().username()


def _cluster_name() -> str:
    """The Slurm cluster that this process runs on, or an empty string outside of a Slurm job."""
    return os.environ.get("SLURM_CLUSTER_NAME", "") if "SLURM_JOB_ID" in os.environ else ""


def _enclosing_slurm_job() -> str:
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID", "")
