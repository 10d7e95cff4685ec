"""What is asked of a running Slurm: sbatch, squeue, scontrol and scancel."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from msm_hpc.base.errors import UserError
from msm_hpc.base.stopping import STOPPING
from msm_hpc.launch.job import JobRef, inside_job, user_name
from msm_hpc.launch.job_state import RUNNING, JobState

log = logging.getLogger(__name__)
PAUSES = (1.0, 2.0, 4.0)
PAUSES_IN_A_JOB = (*PAUSES, 8.0, 15.0, 30.0, *4 * (60.0,))
"""Seconds between asking and asking again where Slurm does not answer: a job can wait, a person should know soon."""

_NO_ANSWER = re.compile(
    "timed out|unable to contact|connect|communication|zero bytes|(send|receive) failure|standby|temporarily|munge|"
    "authentication|configuration source",
    re.IGNORECASE,
)
"""What the controller's clients say where it is busy, restarts or is away; anything else is an answer."""

Remote = Callable[[Sequence[str], str], subprocess.CompletedProcess[str]]
"""Calls a command, with an input, on another host."""
_remote: Remote | None = None

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def reach(remote: Remote | None) -> None:
    """From now on, have this process call Slurm's commands by ``remote``, on a host that has them; None: here."""
    global _remote
    _remote = remote


def has(name: str) -> bool:
    """Whether one of Slurm's commands can be called; of another host, that is seen when it is."""
    return _remote is not None or shutil.which(name) is not None


def can_ask() -> bool:
    """Whether squeue can be called."""
    return has("squeue")


def can_submit() -> bool:
    """Whether sbatch can be called."""
    return has("sbatch")


@dataclass(frozen=True)
class Answer:
    """What sbatch answered: the id of the job, or why there is none; neither where it was only asked."""

    job: str | None
    refusal: str = ""


def sbatch(script: str, *options: str) -> Answer:
    """Submit a script.

    It is read from a file without a name, that nobody else can write and that is whole however we end. sbatch ends
    with this process: if it lived on after a kill, it would submit what the next `msm run` has submitted again.
    """
    answer = _remote(("sbatch", *options), script) if _remote else _sbatch_here(script, *options)
    found = re.search(r"Submitted batch job (\d+)", answer.stdout)
    if answer.returncode == 0 and (found or "--test-only" in options):
        return Answer(found[1] if found else None)
    lines = [re.sub(r"^(sbatch: )?(error: |allocation failure: )?", "", line) for line in answer.stderr.splitlines()]
    return Answer(None, "; ".join(line for line in lines if line and "--help" not in line) or "no reason given")


def _sbatch_here(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryFile() as file, outside_of_any_job():
        file.write(script.encode())
        file.seek(0)
        end_with_us = partial(_end_with, os.getpid())
        return subprocess.run(
            ["sbatch", *options], stdin=file, capture_output=True, text=True, check=False, preexec_fn=end_with_us
        )


def is_silent(refusal: str) -> bool:
    """Whether sbatch refused because it got no answer."""
    return _NO_ANSWER.search(refusal) is not None


def _end_with(parent: int) -> None:
    """In a new process: have the kernel kill it when ``parent`` ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def jobs_of(tokens: Collection[str]) -> Mapping[str, str]:
    """The queued and running jobs that have one of ``tokens`` in their comment, by the token; arrays by their base id.

    Raises:
        UserError: squeue fails, so that it is unknown.
    """
    if not tokens:
        return {}
    answer = ask("squeue", "--noheader", "--format=%F %k")
    if answer.returncode:
        raise _unknown(answer)
    found: dict[str, str] = {}
    for line in answer.stdout.splitlines():
        job, *words = line.split()
        found |= {word: job for word in words if word in tokens}
    return found


def queue(jobs: Collection[JobRef]) -> Mapping[str, JobState]:
    """How those of this cluster's ``jobs`` stand that are queued or running, by id; one call of squeue.

    Other elements of their arrays are shown, too.
    """
    if not jobs:
        return {}
    if not can_ask():
        raise UserError("squeue is not on the PATH, so whether a Slurm job still runs is unknown; use a login node")
    ids = {job.id.partition("_")[0] for job in jobs}
    answer = ask("squeue", "--noheader", "--array", "--format=%i|%T|%r", f"--jobs={','.join(sorted(ids))}")
    if "Invalid job id" in answer.stderr:  # said where the only job asked about is forgotten already
        return {}
    if answer.returncode:
        raise _unknown(answer)
    rows = (line.split("|", 2) for line in answer.stdout.splitlines() if line.count("|") > 1)
    return {job: JobState("pending", reason) if state == "PENDING" else RUNNING for job, state, reason in rows}


def here(jobs: Collection[JobRef]) -> set[JobRef]:
    """Those of ``jobs`` that are surely of this cluster: on it, the id of another's is that of another job."""
    name = _setting("ClusterName") if any(job.cluster for job in jobs) else ""
    return {job for job in jobs if job.cluster in ("", name)}


def hidden(jobs: Collection[JobRef]) -> set[JobRef]:
    """Those of ``jobs`` that squeue may not show even if they are running.

    They may belong to another cluster, or to another user where users see only their own jobs.
    """
    private = _setting("PrivateData") if any(_of_another(job) for job in jobs) else ""
    hides_others = private is None or "jobs" in private
    shown = here(jobs)
    return {job for job in jobs if job not in shown or (hides_others and _of_another(job))}


def _of_another(job: JobRef) -> bool:
    return job.user not in ("", user_name())


@cache
def settings() -> Mapping[str, str]:
    """What ``scontrol show config`` says, such as ``ClusterName``; asked until it answers once.

    Raises:
        UserError: it does not answer now.
    """
    if not has("scontrol"):
        raise UserError("scontrol is not on the PATH, so which Slurm cluster this is is unknown; use a login node")
    answer = ask("scontrol", "show", "config")
    if answer.returncode:
        raise _unknown(answer)
    lines = answer.stdout.splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _setting(name: str) -> str | None:
    """One of :func:`settings`, empty where there is none of that name; None where Slurm does not answer."""
    try:
        return settings().get(name, "")
    except UserError:
        return None


def answer_of(*command: str) -> str:
    """What a command prints that only asks.

    Raises:
        UserError: Slurm does not answer.
    """
    answer = ask(*command)
    if answer.returncode:
        raise _unknown(answer)
    return answer.stdout


def answer_if_any(*command: str) -> str:
    """Likewise of a command that is not needed; empty where it fails."""
    answer = call(*command)
    return "" if answer.returncode else answer.stdout


def show_job(job: JobRef) -> str:
    """What scontrol says about a job."""
    return ask("scontrol", "show", "job", job.id).stdout


def requeued(shown: str) -> str | None:
    """What shows that the job of this process, of which scontrol shows this, is to run again after this run."""
    restarts = re.search(r"\bRestarts=(\d+)", shown)
    again = restarts is not None and int(restarts[1]) > int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    return f"scontrol: {restarts[0]}" if restarts and again else None


def excluded_by(job: JobRef) -> str:
    """The list of nodes that a job leaves out, as Slurm writes it; empty where it leaves out none."""
    found = re.search(r"\bExcNodeList=([^(\s]\S*)", show_job(job))
    return found[1] if found else ""


def after_any(jobs: Collection[str]) -> str:
    """A dependency on the end of one of ``jobs``, whichever is first."""
    return "?".join(f"afterany:{job}" for job in jobs)


def requeue(job: JobRef, pause: float = 0, exclude: str = "", after: Collection[str] = ()) -> str | None:
    """Put a running job back into the queue; returns Slurm's reason where it will not.

    It starts after ``pause`` seconds and the first of the jobs ``after``, or when Slurm likes, and if there is a list
    ``exclude``, not on its nodes. At once Slurm sends SIGTERM to this process and what it has started, which hear it
    when that is said, too.
    """
    with _undisturbed():
        answer = ask("scontrol", "requeue", job.id)
        if answer.returncode and "pending execution" not in answer.stderr:  # Slurm has put it back itself
            return answer.stderr.strip() or "refused"
        changes = [f"StartTime=now+{pause:.0f}"] if pause else []
        changes += [f"ExcNodeList={exclude}"] if exclude else []
        changes += [f"Dependency={after_any(after)}"] if after else []
        if changes:
            ask("scontrol", "update", f"JobId={job.id}", *changes)
    return None


def drop_dependency(job: str, elements: Collection[int], of: int) -> str | None:
    """Have elements of an array of so many wait for nothing any more; returns Slurm's reason where it will not."""
    which = f"{job}_[{','.join(map(str, elements))}]" if of > 1 else job
    answer = ask("scontrol", "update", f"JobId={which}", "Dependency=")
    return answer.stderr.strip() or "refused" if answer.returncode else None


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """While this is open, this thread and what it starts do not hear the signals that stop."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cancel(jobs: Collection[JobRef]) -> None:
    """Cancel jobs and array elements; one that has ended already is no error."""
    if not jobs:
        return
    answer = ask("scancel", "--quiet", *sorted({job.id for job in jobs}))
    if answer.returncode:
        raise UserError(f"scancel failed: {answer.stderr.strip()}")


@contextlib.contextmanager
def outside_of_any_job() -> Iterator[None]:
    """Hide the Slurm job that this process may be in: sbatch would take over its memory, ranks and nodes.

    Such a variable wins over the script, or reaches the new job's srun and clashes with what it is told. Only
    SLURM_CONF stays, which says where Slurm is.
    """
    inside = "SLURM_JOB_ID" in os.environ
    ours = [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SRUN_")) and name != "SLURM_CONF"]
    saved = {name: os.environ.pop(name) for name in ours if inside}
    try:
        yield
    finally:
        os.environ.update(saved)


def _unknown(answer: subprocess.CompletedProcess[str]) -> UserError:
    said = answer.stderr.strip().splitlines() or ["no reason given"]
    reason = re.sub(r"^\w+: (error|fatal): ", "", said[-1])
    return UserError(f"{answer.args[0]} failed: {reason}; is the Slurm controller up?")


def ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Call a command that does no harm when it is repeated, again and again where the controller does not answer."""
    for pause in PAUSES_IN_A_JOB if inside_job() else PAUSES:
        answer = call(*command)
        if not answer.returncode or not _NO_ANSWER.search(answer.stderr):
            return answer
        log.info("%s failed: %s; asked again in %.0f s", command[0], answer.stderr.strip(), pause)
        time.sleep(pause)
    return call(*command)


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Call a command."""
    return _remote(command, "") if _remote else subprocess.run(command, capture_output=True, text=True, check=False)
