"""Jobs of one rank on this machine, forked from a process that has imported what most of them need.

PyTorch, Megatron and transformers take seconds of CPU to import, more than most steps of a small campaign take to run.
So one process, Python's fork server, imports them when the first job starts, and each job is a copy of it::

    msm run ──▶ fork server (imports once, starts nothing) ──▶ job, job, ...

A job finds the variables of a submitit job, as one of submitit's local executor does. Once ``msm run`` is gone the fork
server ends, and its jobs find themselves orphaned (:mod:`msm_hpc.launch.local_processes`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from submitit.core.utils import JobPaths

from msm_hpc.launch import entry


@dataclass(frozen=True)
class ForkedJob:
    """A job that this process has had forked."""

    process: BaseProcess

    @property
    def job_id(self) -> str:
        """Its process id."""
        return str(self.process.pid)

    def done(self) -> bool:
        """Whether it has ended."""
        return not self.process.is_alive()


def start_forked(folder: Path, function: Callable[..., None], *arguments: str) -> ForkedJob | None:
    """Start ``function(*arguments)``, whose log goes to ``folder``. Ctrl-C is blocked in it until it unblocks it.

    Returns:
        The job, or None where the fork server cannot start, such as where the code was broken meanwhile.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([function.__module__, f"{__package__}.preloaded"])
    call = [str(folder), f"{function.__module__}:{function.__qualname__}", *arguments]
    process = server.Process(target=_job, args=(dict(os.environ), call))
    try:
        process.start()
    except (EOFError, ConnectionError):
        return None
    return ForkedJob(process)


def _job(environment: Mapping[str, str], call: list[str]) -> None:
    """In the new process: become a job of one rank, and make the call."""
    os.environ.clear()
    os.environ.update(environment, **_submitit(call[0]))
    paths = JobPaths(call[0], str(os.getpid()), 0)
    paths.folder.mkdir(parents=True, exist_ok=True)
    for number, path in ((1, paths.stdout), (2, paths.stderr)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)  # a line at a time, as stderr
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.argv[1:] = call
    entry.main()


def _submitit(folder: str) -> dict[str, str]:
    """The variables by which submitit's local executor lets a process know which job it is, and which rank."""
    return {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_FOLDER": folder,
        "SUBMITIT_LOCAL_JOB_ID": str(os.getpid()),
        "SUBMITIT_LOCAL_NTASKS": "1",
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_GLOBALID": "0",
        "SUBMITIT_LOCAL_LOCALID": "0",
    }
