"""Jobs on this machine, through submitit's local executor, which end when the process that started them is gone.

A Ctrl-C reaches all of a terminal's processes, but a kill reaches only the one it names, and the jobs of a killed
``msm run`` would go on for hours. So every job looks whether its launcher lives, and stops itself where it does not. A
closed terminal (SIGHUP) stops the launcher alone; its jobs ignore that signal and then find it gone.

Between the launcher and the ranks of a job stands submitit's controller, which kills them a second after a Ctrl-C of
its own, while they save. So Ctrl-C is blocked when it starts, and each rank takes it again::

    msm run ──▶ controller (Ctrl-C blocked) ──▶ rank 0, rank 1, ... (Ctrl-C: save, then end)
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import NoReturn

import psutil
import submitit

from msm_hpc.launch.jobs import JobRef, living, local_job

log = logging.getLogger(__name__)
FOREVER_MINUTES = 60 * 24 * 365  # submitit's default ends a job after two minutes
LAUNCHER = "MSM_LAUNCHER"
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_STOPS = 30.0
"""A stage that has not set its handlers yet misses a signal, so it is sent again."""
SECONDS_TO_END = 20.0
"""Of the other ranks, once rank 0 has failed: they may still find out why, and tell it."""


def start_local(folder: Path, ranks: int, function: Callable[..., None], *arguments: str) -> submitit.Job[None]:
    """Start ``function(*arguments)`` in ``ranks`` processes; logs and pickles go to ``folder``.

    ``function`` begins with :func:`follow_launcher`: until then Ctrl-C is blocked in it.

    One thread a rank: more would fight over the cores that the other ranks and jobs were given.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[LAUNCHER] = json.dumps(asdict(local_job()))
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(tasks_per_node=ranks, timeout_min=FOREVER_MINUTES)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # children inherit that it is ignored
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # and this
    try:
        return executor.submit(function, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, hangup)


def follow_launcher(stop: signal.Signals) -> None:
    """In a job of this machine: take Ctrl-C, and send ``stop`` to this process once its launcher is gone."""
    told = os.environ.get(LAUNCHER)
    if told is None:
        return
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    launcher = JobRef(**json.loads(told))
    if launcher.id != str(os.getpid()):
        threading.Thread(target=_stop_without, args=(launcher, stop), daemon=True).start()


def _stop_without(launcher: JobRef, stop: signal.Signals) -> NoReturn:
    while living([launcher]):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    log.warning("process %s, which started this job, is gone: stopping", launcher.id)
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
    """The other children of submitit's controller; none outside of a local job."""
    controller = os.getppid()
    if os.environ.get("SUBMITIT_LOCAL_JOB_ID") != str(controller):
        return []
    return [process for process in psutil.Process(controller).children() if process.pid != os.getpid()]


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
