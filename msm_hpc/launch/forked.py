"""Jobs on this machine, forked from a process that has imported what most of them need.

PyTorch, Megatron and transformers take seconds of CPU to import, more than most steps of a small campaign take to run.
So one process, Python's fork server, imports them when the first job starts, and each job is a copy of it::

    msm run ──▶ fork server (imports once, starts nothing) ──▶ job, job, ...
                                                               job of several ranks ──▶ rank 0, rank 1, ...

Ranks share the memory of what is imported, too. On a busy machine that import takes minutes, in which the first job
does not start; a Ctrl-C ends the wait.

A job finds the variables of a submitit job, as one of submitit's local executor does. Once ``msm run`` is gone its jobs
find themselves orphaned (:mod:`msm_hpc.launch.local_processes`), and after them the fork server ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType, ModuleType

from submitit.core.utils import JobPaths

from msm_hpc.launch import entry, local_processes


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


_MORE: list[str] = []


def preload(modules: Sequence[str]) -> None:
    """Have the fork server import ``modules``, too; this is to be said before it starts."""
    _MORE[:] = modules


def start_server(function: Callable[..., None]) -> None:
    """Start the fork server, unless it runs: jobs that call ``function`` are forked once it has imported all.

    Ctrl-C is blocked in it, and in jobs until they unblock it, if it is blocked here.
    """
    modules = [function.__module__, *_MORE, f"{__package__}.preloaded"]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)
    with contextlib.suppress(OSError):  # which start_forked meets again
        forkserver.ensure_running()


def start_forked(folder: Path, ranks: int, function: Callable[..., None], *arguments: str) -> ForkedJob | None:
    """Start ``function(*arguments)`` in ``ranks`` ranks, whose logs go to ``folder``, after :func:`start_server`.

    Returns:
        The job, or None where the fork server cannot start: the code was broken meanwhile, the working folder is gone,
        or TMPDIR is too long for its socket.
    """
    call = [str(folder), f"{function.__module__}:{function.__qualname__}", *arguments]
    process = multiprocessing.get_context("forkserver").Process(target=_job, args=(dict(os.environ), call, ranks))
    try:
        with _without_main():
            process.start()
    except (EOFError, OSError):
        return None
    return ForkedJob(process)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Python would have each job import the program that starts it, the whole command line, which no job needs."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _job(environment: Mapping[str, str], call: list[str], ranks: int) -> None:
    """In the new process: become a job of one rank, or the one that forks its ranks and waits for them."""
    os.environ.clear()
    os.environ.update(environment)
    job = os.getpid()
    if ranks == 1:
        _rank(call, job, 0, 1)
        return
    context = multiprocessing.get_context("fork")
    started = [context.Process(target=_rank, args=(call, job, rank, ranks)) for rank in range(ranks)]
    for each in started:
        each.start()
    local_processes.name_controller()

    def end(number: int, frame: FrameType | None) -> None:
        for each in started:
            each.terminate()

    signal.signal(signal.SIGTERM, end)
    for each in started:
        each.join()


def _rank(call: list[str], job: int, rank: int, ranks: int) -> None:
    """Become a rank of the job, and make the call."""
    os.environ.update(_submitit(call[0], job, rank, ranks))
    paths = JobPaths(call[0], str(job), rank)
    paths.folder.mkdir(parents=True, exist_ok=True)
    for number, path in ((1, paths.stdout), (2, paths.stderr)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)  # a line at a time, as stderr
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.argv[1:] = call
    entry.main()


def _submitit(folder: str, job: int, rank: int, ranks: int) -> dict[str, str]:
    """The variables by which submitit's local executor lets a process know which job it is, and which rank."""
    return {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_FOLDER": folder,
        "SUBMITIT_LOCAL_JOB_ID": str(job),
        "SUBMITIT_LOCAL_NTASKS": str(ranks),
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }
