"""Jobs on this machine: by :mod:`msm_hpc.launch.forked` or, where nothing can be forked, submitit's local executor.

Between the process that starts a job and the ranks of the job stands a controller: the fork server's, or submitit's,
which kills them a second after a Ctrl-C of its own, while they save. So Ctrl-C is blocked when these start, and each
rank unblocks it again::

    msm run ──▶ controller (Ctrl-C blocked) ──▶ rank 0, rank 1, ... (Ctrl-C: save, then end)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import psutil
import submitit

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Work, WorkClass
from msm_hpc.launch import entry, local_processes
from msm_hpc.launch.causes import Finding, JobEnd, by_signal_alone
from msm_hpc.launch.forked import ForkedJob, start_forked, start_server
from msm_hpc.launch.job import RUN, JobRef, is_elsewhere, is_running, local_job
from msm_hpc.launch.job_state import RUNNING, JobState
from msm_hpc.launch.request import ArrayRequest

ELSEWHERE = JobState("unknown", "a process of another host cannot be asked about here")
FOREVER_MINUTES = 60 * 24 * 365  # submitit's default ends a job after two minutes


@dataclass(frozen=True)
class LocalLauncher:
    """Runs jobs as processes of this machine, on its CPU; see :class:`msm_hpc.launch.launcher.Launcher`."""

    cluster: Cluster
    started: list[ForkedJob | submitit.Job[None]] = field(default_factory=list, compare=False, repr=False)
    queues = False

    @property
    def most_ranks_per_node(self) -> int:
        """As many as run at once."""
        return self.cluster.slots

    def render(self, folder: Path, request: ArrayRequest) -> str:
        """The shell line of each rank."""
        lines = [entry.command(folder, request.function, *request.given, *each) for each in request.each]
        return "".join(f"{line}  # in {request.nodes * request.ranks_per_node} processes\n" for line in lines)

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        """Start the calls now, all at once: the caller knows what may start, and how much at a time."""
        assert not (request.dependency or request.several) and request.nodes == 1
        jobs = [self._start(folder, request, each) for each in request.each]
        self.started.extend(jobs)
        return [local_job(int(job.job_id)) for job in jobs]

    def _start(self, folder: Path, request: ArrayRequest, each: Sequence[str]) -> ForkedJob | submitit.Job[None]:
        ranks, arguments = request.ranks_per_node, (*request.given, *each)
        with starting():
            start_server(request.function)
        forked = start_forked(folder, ranks, request.function, *arguments)
        return forked or start_local(folder, ranks, request.function, *arguments)

    def states(self, jobs: Collection[JobRef]) -> dict[JobRef, JobState]:
        """Running where the process is; of another host's that is unknown."""
        self.started[:] = [job for job in self.started if not job.done()]  # which also reaps those that ended
        return {job: ELSEWHERE if is_elsewhere(job) else RUNNING for job in jobs if is_running(job)}

    def ends(self, jobs: Collection[JobRef]) -> dict[JobRef, JobEnd]:
        """Nobody knows how a process of another day ended."""
        return {}

    def requeue(self, job: JobRef, pause: float = 0, avoid: Collection[str] = ()) -> bool:
        """There is no queue here."""
        return False

    def cancel(self, jobs: Collection[JobRef]) -> None:
        """Stop the runs that started the jobs, which would start others, and send Ctrl-C to every rank."""
        if elsewhere := sorted({job.host for job in jobs if is_elsewhere(job)}):
            raise UserError(f"processes of {', '.join(elsewhere)} cannot be stopped from here; log in there")
        running = [job for job in jobs if is_running(job)]
        ranks = {process for job in running for process in _processes(job, local_processes.ranks_of)}
        for process in {process for job in running for process in _processes(job, local_processes.starters_of)}:
            _send(process, signal.SIGTERM)  # unlike Ctrl-C no shell has it ignored
        for process in ranks:
            _send(process, signal.SIGINT)

    def why_stopped(self, job: JobRef, number: signal.Signals) -> Finding:
        """By the signal."""
        return by_signal_alone(number)

    def down(self, hosts: Collection[str]) -> Mapping[str, str]:
        """This machine is not."""
        return {}

    def at_once(self, ranks: int) -> int:
        """As many as there are slots for, but one in any case."""
        return max(self.cluster.slots // ranks, 1)

    def lanes(self, work: Work, ranks: int, nodes: int = 1) -> int:
        """One: ``slots`` say how many jobs run at once."""
        return 1

    def memory_of_rank(self, ranks: int, work: Work) -> tuple[str, int]:
        """A share of this machine's memory."""
        name = f"this machine over {ranks} ranks" if ranks > 1 else "this machine"
        return name, psutil.virtual_memory().total // ranks

    def shape_problems(self, kind: str, ranks: int, nodes: int) -> Iterator[str]:
        """More ranks than slots, or more than one node."""
        if ranks > self.cluster.slots:
            yield (
                f"{kind}.layout needs {ranks} ranks, but cluster.slots is {self.cluster.slots}; "
                f"set cluster.slots={ranks} or a smaller layout"
            )
        if nodes > 1:
            yield f"{kind}.layout.nodes is {nodes}, but cluster=local is one machine; set it to 1"

    def profile_problems(self) -> Iterator[str]:
        """GPUs, for any class of work."""
        for work in get_args(WorkClass):
            if self.cluster.resources.of(Work(work)).gpus_per_node:
                yield f"cluster.resources.{work}.gpus_per_node is set, but cluster=local runs on the CPU; set it to 0"

    def site(self) -> None:
        """Nobody to ask."""


def _processes(job: JobRef, find: Callable[[int], list[psutil.Process]]) -> list[psutil.Process]:
    try:
        return find(int(job.id))
    except psutil.NoSuchProcess:  # it has just ended
        return []
    except psutil.AccessDenied as error:
        raise UserError(f"process {job.id} belongs to {job.user}, who must stop it") from error


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
        process.send_signal(number)


def this_machine(slots: int) -> Cluster:
    """The cluster that this machine is, for so many ranks at once."""
    return Cluster(launcher="local", slots=slots)


def start_local(folder: Path, count: int, function: Callable[..., None], *arguments: str) -> submitit.Job[None]:
    """Start ``function(*arguments)`` in ``count`` ranks, whose logs go to ``folder``; only its end can be waited for.

    ``function`` begins with :func:`~msm_hpc.launch.local_processes.stop_when_orphaned`: until then Ctrl-C is blocked
    in it.
    """
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(tasks_per_node=count, timeout_min=FOREVER_MINUTES)
    with starting():
        return executor._submit_command(entry.command(folder.absolute(), function, *arguments))


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """While this is open, a process that is started knows who started it, and is born deaf to Ctrl-C and SIGHUP.

    One thread a rank: more would fight over the cores that the other ranks and jobs were given.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    local_processes.name_starter()
    os.environ[RUN] = secrets.token_hex(16)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # children inherit that it is ignored
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # and this
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGHUP, hangup)


def failed_ranks(job: submitit.Job[None]) -> list[Path]:
    """Wait for a job of :func:`start_local`; returns the logs of the ranks that did not end well.

    Those that failed come before those that were only killed then, which left no traceback.
    """
    job.wait()
    of_each = [job.task(rank).paths for rank in range(job.num_tasks)]
    failed = [
        paths.stderr for paths in of_each if not entry.ended_well(paths.folder, job.job_id, paths.task_id).exists()
    ]
    return sorted(failed, key=lambda log: not (log.is_file() and "Traceback" in log.read_text(errors="replace")))
