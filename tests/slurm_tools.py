"""Talk to the Slurm cluster that SLURM_CONF names, for tests.

`sacct` trails the truth. For seconds after a submission it shows no row, or one row under the bare array id with the
job name `allocation` and the state COMPLETED, while the elements have yet to run. So `Slurm.wait` gets the elements
that must appear, and believes none but these.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_UNFINISHED = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED"}


def why_no_cluster() -> str | None:
    """Return why no cluster can be used here, or None if one answers."""
    if "SLURM_CONF" not in os.environ:
        return "no Slurm cluster: run the tests through slurm/single_machine/with_cluster.sh"
    try:
        answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    except FileNotFoundError:
        return "no Slurm cluster: scontrol is not installed (slurm/single_machine/install.sh)"
    return None if answer.returncode == 0 else f"no Slurm cluster answers: {answer.stdout or answer.stderr}"


def elements(job_id: str, count: int) -> list[str]:
    """Return the ids of an array's elements 0 to count - 1, as sacct prints them."""
    return [f"{job_id}_{index}" for index in range(count)]


@dataclass(frozen=True)
class Slurm:
    """The cluster of SLURM_CONF, seen from a folder in which jobs start and leave their logs."""

    folder: Path

    def sbatch(self, arguments: Sequence[str], script: str) -> str:
        """Submit a batch script's body and return the job id; raises CalledProcessError if Slurm refuses it."""
        command = ["sbatch", "--parsable", f"--chdir={self.folder}", *arguments]
        return _output(command, stdin=f"#!/bin/bash\n{script}\n").strip()

    def sacct(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return the state of each job and array element that sacct knows among the given jobs."""
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State"]
        rows = [line.split("|") for line in _output([*command, f"--jobs={','.join(job_ids)}"]).splitlines()]
        return {job: state.split()[0] for job, name, state in rows if name != "allocation"}

    def times(self, job_ids: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return when each job and array element that has ended began and ended, in seconds since the epoch."""
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,Start,End"]
        environment = {**os.environ, "SLURM_TIME_FORMAT": "%s"}
        answer = subprocess.run(
            [*command, f"--jobs={','.join(job_ids)}"], check=True, text=True, stdout=subprocess.PIPE, env=environment
        ).stdout
        rows = (line.split("|") for line in answer.splitlines())
        return {job: (int(start), int(end)) for job, start, end in rows}

    def wait(self, job_ids: Collection[str], timeout: float = 120) -> dict[str, str]:
        """Wait until each of the jobs or array elements has ended and return their states.

        Raises:
            TimeoutError: after `timeout` seconds; the message has sacct's and squeue's last words.
        """
        deadline = time.monotonic() + timeout
        while True:
            states = self.sacct(job_ids)
            ended = {job: states[job] for job in job_ids if states.get(job, "PENDING") not in _UNFINISHED}
            if len(ended) == len(job_ids):
                return ended
            if time.monotonic() > deadline:
                queue = _output(["squeue", "--noheader", "--format=%i %T %r"])
                raise TimeoutError(f"after {timeout} s sacct says {states}, squeue says:\n{queue}")
            time.sleep(0.3)


def processes(**variables: str) -> list[psutil.Process]:
    """Those of this cluster with such variables; other clusters here have jobs and nodes of the same names."""
    variables["SLURM_CONF"] = os.environ["SLURM_CONF"]
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if variables.items() <= process.environ().items():
                found.append(process)
    return found


@contextlib.contextmanager
def lost(node: str, ranks: Sequence[psutil.Process] = ()) -> Iterator[None]:
    """The node's daemon stands still while this is open, and Slurm takes it to be down; so do ``ranks``, at first."""
    (daemon,) = (each for each in processes() if each.cmdline() == ["slurmd", "-D", "-N", node])
    for process in (daemon, *ranks):
        process.send_signal(signal.SIGSTOP)
    try:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"])  # refused where it has come back


def _output(command: list[str], stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, check=True, text=True, stdout=subprocess.PIPE).stdout
