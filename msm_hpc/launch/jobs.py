"""What a launcher is asked to run, and how a job is known afterwards."""

from __future__ import annotations

import logging
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from signal import Signals
from typing import Literal

import psutil
import submitit

from msm_hpc.base.errors import UserError

log = logging.getLogger(__name__)
Interruption = Literal["timeout", "preempted", "cancelled"]
PORTS = (20_000, 32_000)  # below Linux's ephemeral ports, so that no outgoing connection holds one


@dataclass(frozen=True)
class JobRef:
    """A job that can be asked for later, also by another process on another day.

    ``id`` is Slurm's (``64_3`` for an array element), or the process id of a local job. A process id alone may be
    used again by another process: ``started`` (seconds since the epoch) tells them apart.
    """

    executor: Literal["local", "slurm"]
    id: str
    host: str = ""
    started: float = 0.0


@dataclass(frozen=True)
class Ranks:
    """This process's place among the processes of its job, as ``torchrun`` would export it."""

    rank: int
    world_size: int
    local_rank: int
    master_address: str
    master_port: int

    def environment(self) -> dict[str, str]:
        """The variables that ``torch.distributed`` reads with its ``env://`` method."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
        }


def current_ranks() -> Ranks:
    """The ranks of the submitit job that this process belongs to, or a single rank outside of one."""
    try:
        job = submitit.JobEnvironment()
    except RuntimeError:
        return Ranks(0, 1, 0, "127.0.0.1", 0)
    address = "127.0.0.1" if job.num_nodes == 1 else job.hostnames[0]
    port = random.Random(job.job_id).randrange(*PORTS)
    return Ranks(job.global_rank, job.num_tasks, job.local_rank, address, port)


def current_job() -> JobRef:
    """The Slurm job that this process belongs to; elsewhere the process itself."""
    try:
        job = submitit.JobEnvironment()
    except RuntimeError:
        return local_job()
    return JobRef("slurm", job.job_id, socket.gethostname()) if job.cluster == "slurm" else local_job()


def cause_of_signal(number: Signals) -> Interruption:
    """Why a stopping signal reached this process; Slurm is asked where it is a job of Slurm's.

    SIGUSR2 is what our scripts ask for ahead of the time limit. SIGTERM comes at ``scancel``, at preemption and, where
    SIGUSR2 was not sent, at the limit; a site may send SIGUSR2 at preemption too.
    """
    job = current_job()
    told = _scontrol("show", "job", job.id).stdout if job.executor == "slurm" else ""
    if re.search(r"\bPreemptTime=\d", told):
        return "preempted"
    if number == Signals.SIGUSR2 or re.search(r"\b(JobState=TIMEOUT|Reason=TimeLimit)\b", told):
        return "timeout"
    return "cancelled"


def requeue() -> bool:
    """Have Slurm run this process's job again under its id, so that jobs that wait for it go on waiting.

    Returns:
        Whether Slurm will. It ends this process soon after.
    """
    job = current_job()
    if job.executor != "slurm":
        return False
    answer = _scontrol("requeue", job.id)
    log.info("requeue of job %s: %s", job.id, answer.stderr.strip() or "accepted")
    return answer.returncode == 0


def _scontrol(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=False)


def local_job(pid: int | None = None) -> JobRef:
    """A process of this machine as a job."""
    process = psutil.Process(pid)
    return JobRef("local", str(process.pid), socket.gethostname(), process.create_time())


def current_log() -> str:
    """The file that this job's standard error goes to, or an empty string outside of submitit."""
    try:
        return str(submitit.JobEnvironment().paths.stderr)
    except RuntimeError:
        return ""


def living(jobs: Iterable[JobRef]) -> frozenset[JobRef]:
    """Those of ``jobs``, of whichever user, that are queued or running; one call of squeue however many there are.

    A local job of another host cannot be asked from here and counts as living.

    Raises:
        UserError: a Slurm job is to be asked for, and squeue fails.
    """
    jobs = frozenset(jobs)
    queued = _queued({job.id.partition("_")[0] for job in jobs if job.executor == "slurm"})
    return frozenset(job for job in jobs if (job.id in queued if job.executor == "slurm" else _runs(job)))


def _queued(ids: Collection[str]) -> frozenset[str]:
    """Those of the jobs and arrays ``ids`` that are queued or running, array elements one by one."""
    if not ids:
        return frozenset()
    if shutil.which("squeue") is None:
        raise UserError("squeue is not on the PATH, so whether a Slurm job still runs is unknown; use a login node")
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(sorted(ids))}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Invalid job id" in answer.stderr:  # said where the only job asked for is forgotten already
        return frozenset()
    if answer.returncode:
        raise UserError(f"squeue failed: {answer.stderr.strip()}; is the Slurm controller up?")
    return frozenset(answer.stdout.split())


def _runs(job: JobRef) -> bool:
    if job.host != socket.gethostname():
        return True
    try:
        process = psutil.Process(int(job.id))
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - job.started) < 1
    except psutil.NoSuchProcess:
        return False
