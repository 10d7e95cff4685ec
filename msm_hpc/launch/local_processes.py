"""How the processes of a local run end together.

A Ctrl-C reaches all of a terminal's processes, but a kill reaches only the one it names, and the jobs of a killed
``msm run`` would continue for hours. So every job checks whether the process that started it is alive, and stops itself
where it is not. A closed terminal (SIGHUP) stops the starting process alone; its jobs ignore that signal and then find
themselves orphaned.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil

from msm_hpc.launch.job import JobRef, is_running, local_job

log = logging.getLogger(__name__)
STARTER, JOB_ID = "MSM_STARTED_BY", "SUBMITIT_LOCAL_JOB_ID"
FORK_SERVER = "multiprocessing.forkserver"
"""In the command line of Python's fork server, and so in that of what is forked from it."""
CONTROLLER = "msm-ranks"
"""The name of a forked process that waits for the ranks of a job."""
SECONDS_BETWEEN_CHECKS = 2.0
SECONDS_BETWEEN_STOPS = 30.0
"""A stage that has not set its handlers yet misses a signal, so it is sent again."""
SECONDS_TO_END = 20.0
"""Of the other ranks, once rank 0 has failed: they may still find out why, and report it."""


def name_starter() -> None:
    """Let the jobs that this process starts know that it did."""
    os.environ[STARTER] = json.dumps(asdict(local_job()))


def name_controller() -> None:
    """Let it be known that the children of this process are the ranks of a job; called after these have begun.

    By its name, which they would inherit: a forked process has the command line and environment of its parent.
    """
    Path("/proc/self/comm").write_text(CONTROLLER)


def stop_when_orphaned(stop: signal.Signals) -> None:
    """In a job of this machine: unblock Ctrl-C, and send ``stop`` to this process once its starter is gone."""
    value = os.environ.get(STARTER)
    if value is None:
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    starter = JobRef(**json.loads(value))
    if starter.id != str(os.getpid()):
        threading.Thread(target=_stop_after, args=(starter, stop), daemon=True).start()


def _stop_after(starter: JobRef, stop: signal.Signals) -> NoReturn:
    while is_running(starter):
        time.sleep(SECONDS_BETWEEN_CHECKS)
    log.warning("process %s, which started this job, is gone: stopping", starter.id)
    while True:
        os.kill(os.getpid(), stop)
        time.sleep(SECONDS_BETWEEN_STOPS)


@contextlib.contextmanager
def ends_the_job() -> Iterator[None]:
    """In rank 0 of a job of this machine: where the block fails, the other ranks end too.

    On Slurm ``srun --kill-on-bad-exit`` does that. Ranks that wait for one that never came would stay for minutes.
    """
    try:
        yield
    except Exception:  # broad: whatever rank 0 fails of; raised again
        _, left = psutil.wait_procs(_other_ranks(), timeout=SECONDS_TO_END)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
                process.kill()
        raise


def _other_ranks() -> list[psutil.Process]:
    """The other children of the controller; none outside of a local job of several ranks."""
    controller = os.getppid()
    if os.environ.get(JOB_ID) != str(controller):
        return []
    return [process for process in psutil.Process(controller).children() if process.pid != os.getpid()]


def starters_of(pid: int) -> list[psutil.Process]:
    """The run that started the job of process ``pid``, if there is one that lives; never this process."""
    value = psutil.Process(pid).environ().get(STARTER)
    starter = JobRef(**json.loads(value)) if value else None
    ours = starter is None or starter.id in (str(os.getpid()), str(pid))
    return [] if starter is None or ours or not is_running(starter) else [psutil.Process(int(starter.id))]


def ranks_of(pid: int) -> list[psutil.Process]:
    """All ranks of the job whose controller or one rank is ``pid``; of a process outside of a job, itself.

    So of a forked job, too: what it has started is told that it belongs to the job, and is no rank of it.
    """
    process = psutil.Process(pid)
    for each in (process, *process.parents()[:1]):
        if each.name() == CONTROLLER:
            return each.children()
    if any(FORK_SERVER in word for word in process.cmdline()):
        return [process]
    controller = psutil.Process(int(process.environ().get(JOB_ID, pid)))
    ranks = [child for child in controller.children() if child.environ().get(JOB_ID) == str(controller.pid)]
    return ranks or [process]


@contextlib.contextmanager
def hangup_interrupts() -> Iterator[None]:
    """While this is open, a closed terminal (SIGHUP) is as Ctrl-C; not under ``nohup``, which ignores it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGHUP)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
