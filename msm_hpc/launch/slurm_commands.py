"""What is asked of a running Slurm: squeue, sacct, scontrol and scancel."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from functools import cache

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.job_state import RUNNING, JobState

UNFINISHED = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "RESIZING"})
"""States of jobs that have not ended; accounting trails the queue by seconds."""


def can_ask() -> bool:
    """Whether squeue is here."""
    return shutil.which("squeue") is not None


def queue(jobs: Collection[JobRef]) -> Mapping[str, JobState]:
    """How those that are queued or running stand, by id, and other elements of their arrays; one call of squeue."""
    if not jobs:
        return {}
    if not can_ask():
        raise UserError("squeue is not on the PATH, so whether a Slurm job still runs is unknown; use a login node")
    ids = {job.id.partition("_")[0] for job in jobs}
    answer = _call("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(sorted(ids))}")
    if "Invalid job id" in answer.stderr:  # said where the only job asked about is forgotten already
        return {}
    if answer.returncode:
        raise UserError(f"squeue failed: {answer.stderr.strip()}; is the Slurm controller up?")
    rows = (line.split("|", 2) for line in answer.stdout.splitlines() if line.count("|") > 1)
    return {job: JobState("pending", reason) if state == "PENDING" else RUNNING for job, state, reason in rows}


def ends(jobs: Collection[JobRef]) -> Mapping[str, str]:
    """How those that have ended did, such as ``OUT_OF_MEMORY``, by id; empty where there is no accounting to ask."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    ids = ",".join(sorted({job.id.partition("_")[0] for job in jobs}))
    command = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State")
    rows = (line.split("|", 1) for line in _call(*command, f"--jobs={ids}").stdout.splitlines() if "|" in line)
    states = {job: state.partition(" ")[0] for job, state in rows}  # "CANCELLED by 1000"
    return {job: state for job, state in states.items() if state not in UNFINISHED}


def is_hidden(job: JobRef) -> bool:
    """Whether squeue would not show the job even if it were running.

    It may belong to another cluster, or to another user where users see only their own jobs.
    """
    if job.cluster and job.cluster != settings().get("ClusterName", job.cluster):
        return True
    return job.user not in ("", user_name()) and "jobs" in settings().get("PrivateData", "")


@cache
def settings() -> Mapping[str, str]:
    """What ``scontrol show config`` says, such as ``ClusterName``; empty where it says nothing."""
    if shutil.which("scontrol") is None:
        return {}
    lines = _call("scontrol", "show", "config").stdout.splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def show_job(job: JobRef) -> str:
    """What scontrol says about a job."""
    return _call("scontrol", "show", "job", job.id).stdout


def requeue(job: JobRef) -> str | None:
    """Put a running job back into the queue; returns Slurm's reason where it will not."""
    answer = _call("scontrol", "requeue", job.id)
    return answer.stderr.strip() or "refused" if answer.returncode else None


def cancel(jobs: Collection[JobRef]) -> None:
    """Cancel jobs and array elements; one that has ended already is no error."""
    answer = _call("scancel", "--quiet", *sorted({job.id for job in jobs}))
    if answer.returncode:
        raise UserError(f"scancel failed: {answer.stderr.strip()}")


def refusal(error: str) -> str:
    """sbatch's own words in the message of a failed call."""
    return "; ".join(re.findall(r"sbatch: error: (.*)", error)) or error


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Hide the Slurm job that this process may be in: sbatch would take over its memory, ranks and nodes.

    Such a variable wins over the script, or reaches the new job and clashes with what it sets. Only SLURM_CONF stays,
    which says where Slurm is.
    """
    inside = "SLURM_JOB_ID" in os.environ
    ours = [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"]
    saved = {name: os.environ.pop(name) for name in ours if inside}
    try:
        yield
    finally:
        os.environ.update(saved)


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
