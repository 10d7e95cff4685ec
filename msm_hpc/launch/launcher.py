"""The launcher protocol: how jobs are started, asked about and stopped, wherever they run.

A campaign's launcher follows from its cluster, and that of a job found in a file from the job::

    launcher_of(config.cluster).submit(folder, request)
    launcher_of_job(lease).cancel([lease])
    living(leases)                                # of any launchers, with one call of squeue

To add one, implement :class:`Launcher`, give it a name in :data:`~msm_hpc.config.cluster.LauncherName` and a line in
:data:`LAUNCHERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from signal import Signals
from typing import Protocol

from msm_hpc.config.cluster import Cluster, LauncherName, Work
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.causes import Finding, JobEnd
from msm_hpc.launch.job import JobRef, is_elsewhere
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.local import LocalLauncher
from msm_hpc.launch.nemo_run import NemoRunLauncher
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.launch.slurm_site import Site


class Launcher(Protocol):
    """Runs jobs on one cluster."""

    @property
    def queues(self) -> bool:
        """Whether jobs are queued and run without us; if not, they end when the process that started them does."""

    @property
    def most_ranks_per_node(self) -> int:
        """The most ranks of one training that a node takes."""

    def render(self, folder: Path, request: ArrayRequest) -> str:
        """The script of an array, to look at; nothing is written or submitted."""

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        """Start or queue an array; returns a job for each element. Logs go to ``folder``.

        Raises:
            UserError: it cannot be done from here, or is refused.
        """

    def states(self, jobs: Collection[JobRef]) -> Mapping[JobRef, JobState]:
        """The states of those of ``jobs``, of whichever user, that live, or may for all that is known here."""

    def ends(self, jobs: Collection[JobRef]) -> Mapping[JobRef, JobEnd]:
        """How those of ``jobs`` that have ended did, where anybody keeps it."""

    def requeue(self, job: JobRef, pause: float = 0, avoid: Collection[str] = ()) -> bool:
        """Have the job of this process run again under its id, which ends it soon after; returns whether it will.

        Not before ``pause`` seconds have passed, and not on the nodes to ``avoid`` if there are enough others.
        """

    def cancel(self, jobs: Collection[JobRef]) -> None:
        """Stop jobs, running or queued.

        Raises:
            UserError: one cannot be stopped from here.
        """

    def why_stopped(self, job: JobRef, number: Signals) -> Finding:
        """Why the signal ``number`` reached the running ``job``."""

    def down(self, hosts: Collection[str]) -> Mapping[str, str]:
        """Those of the nodes that are down, by the cluster's name for them, with the words that say so."""

    def at_once(self, ranks: int) -> int:
        """How many trainings of so many ranks run at the same time, at most."""

    def lanes(self, work: Work, ranks: int, nodes: int = 1) -> int:
        """How many steps of so many ranks run side by side in a job."""

    def memory_of_rank(self, ranks: int, work: Work) -> tuple[str, int]:
        """The memory of the machine, in bytes, for each of the ``ranks`` of a job; and what to call it."""

    def shape_problems(self, kind: str, ranks: int, nodes: int) -> Iterator[str]:
        """What makes it impossible to run trainings of this kind and shape, each with its fix."""

    def profile_problems(self) -> Iterator[str]:
        """What the cluster's profile says that this launcher cannot do, each with its fix."""

    def site(self) -> Site | None:
        """What the cluster here has, None where nobody can be asked.

        Raises:
            UserError: it does not answer now.
        """


LAUNCHERS: Mapping[LauncherName, Callable[[Cluster], Launcher]] = {
    "local": LocalLauncher,
    "slurm": SlurmLauncher,
    "nemo_run": NemoRunLauncher,
}


def launcher_of(cluster: Cluster) -> Launcher:
    """The launcher of a cluster."""
    return LAUNCHERS[cluster.launcher](cluster)


def slurm_launcher_of(cluster: Cluster) -> SlurmLauncher:
    """Likewise of one that queues jobs, all of which are Slurm's."""
    launcher = launcher_of(cluster)
    assert isinstance(launcher, SlurmLauncher)
    return launcher


def launcher_of_job(job: JobRef) -> Launcher:
    """The launcher that started a job, to ask about the job or to stop it."""
    return launcher_of(Cluster(launcher=job.launcher))


def states(jobs: Iterable[JobRef]) -> Mapping[JobRef, JobState]:
    """The states of those of ``jobs``, of any launchers, that are queued or running; one call of squeue for all.

    A local job on another host cannot be asked about from here: it counts as living, unless a Slurm job encloses it,
    which can be asked about.

    Raises:
        UserError: a Slurm job is to be asked about, and squeue fails.
    """
    asked = {job: _to_ask_about(job) for job in jobs}
    alive: dict[JobRef, JobState] = {}
    for name, alike in _by_launcher(asked.values()):
        alive |= launcher_of(Cluster(launcher=name)).states(alike)
    return {job: alive[other] for job, other in asked.items() if other in alive}


def living(jobs: Iterable[JobRef]) -> frozenset[JobRef]:
    """Those of ``jobs`` that are queued or running, or may be for all that is known; see :func:`states`."""
    return frozenset(states(jobs))


def ends(jobs: Iterable[JobRef]) -> Mapping[JobRef, JobEnd]:
    """How jobs that have ended did, where that is kept; with one call of sacct."""
    found: dict[JobRef, JobEnd] = {}
    for name, alike in _by_launcher(jobs):
        found |= launcher_of(Cluster(launcher=name)).ends(alike)
    return found


def down(hosts: Iterable[tuple[JobRef, str]]) -> Mapping[str, str]:
    """Those of the ``hosts`` of jobs that their clusters take to be down, with the words that say so."""
    given, found = tuple(hosts), dict[str, str]()
    for name, alike in _by_launcher(job for job, _ in given):
        found |= launcher_of(Cluster(launcher=name)).down({host for job, host in given if job in alike})
    return found


def cancel(jobs: Iterable[JobRef]) -> None:
    """Stop jobs of any launchers, running or queued; with one scancel.

    Raises:
        UserError: one cannot be stopped from here.
    """
    for name, alike in _by_launcher(jobs):
        launcher_of(Cluster(launcher=name)).cancel(alike)


def _by_launcher(jobs: Iterable[JobRef]) -> Iterator[tuple[LauncherName, set[JobRef]]]:
    given = set(jobs)
    for name in {job.launcher for job in given}:
        yield name, {job for job in given if job.launcher == name}


def _to_ask_about(job: JobRef) -> JobRef:
    """The job itself; for a local one on another host, the Slurm job around it."""
    if job.launcher == "local" and job.slurm_job and is_elsewhere(job) and slurm_commands.can_ask():
        return JobRef("slurm", job.slurm_job, job.host, user=job.user, cluster=job.cluster)
    return job
