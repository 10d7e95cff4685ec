"""Job arrays on Slurm, through submitit: the script is rendered the same way for ``msm plan`` and for sbatch."""

from __future__ import annotations

import logging
import re
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, WorkClass
from msm_hpc.launch import slurm_commands
from msm_hpc.launch.causes import Interruption, by_signal_alone
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.request import ArrayRequest

log = logging.getLogger(__name__)
HIDDEN = JobState("unknown", "squeue shows no job of another user or cluster here")


@dataclass(frozen=True)
class SlurmLauncher:
    """Queues jobs on a Slurm cluster; see :class:`msm_hpc.launch.launcher.Launcher`."""

    cluster: Cluster
    queues = True

    @property
    def most_ranks_per_node(self) -> int:
        """As the profile says, and with GPUs no more than there are."""
        return self._limit()[0]

    def render(self, folder: Path, request: ArrayRequest) -> str:
        """The sbatch script of an array."""
        executor = RenderingExecutor(folder)
        executor.update_parameters(**_parameters(self.cluster, request))
        return executor.script(request.elements)

    def submit(
        self, folder: Path, request: ArrayRequest, function: Callable[..., None], calls: Sequence[Sequence[str]]
    ) -> list[JobRef]:
        """Submit the calls as one array, with one sbatch.

        Raises:
            UserError: there is no Slurm here, or sbatch refuses the script.
        """
        assert len(calls) == request.elements
        if submitit.SlurmExecutor.affinity() < 0:
            raise UserError("cluster=slurm, but srun is not on the PATH; run on a login node, or use cluster=local")
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(**_parameters(self.cluster, request))
        try:
            with slurm_commands.outside_of_any_job():
                jobs = executor.map_array(function, *zip(*calls, strict=True))
        except (FailedJobError, subprocess.CalledProcessError) as error:
            raise UserError(
                f"sbatch refused {request.name}: {slurm_commands.refusal(str(error))}; fix the cluster profile (or "
                "wait, at a limit of queued jobs) and run again: what was submitted before stays"
            ) from error
        now, user, cluster = round(time.time()), user_name(), slurm_commands.settings().get("ClusterName", "")
        return [JobRef("slurm", job.job_id, started=now, user=user, cluster=cluster) for job in jobs]

    def states(self, jobs: Collection[JobRef]) -> dict[JobRef, JobState]:
        """As squeue shows it; unknown of those that it would not show here."""
        queue = slurm_commands.queue(jobs)
        shown = {job: queue[job.id] for job in jobs if job.id in queue}
        return shown | {job: HIDDEN for job in jobs if job not in shown and slurm_commands.is_hidden(job)}

    def ends(self, jobs: Collection[JobRef]) -> dict[JobRef, str]:
        """The state that accounting has of each, where there is accounting."""
        ends = slurm_commands.ends(jobs)
        return {job: ends[job.id] for job in jobs if job.id in ends}

    def requeue(self, job: JobRef) -> bool:
        """Under the job's id, so that jobs that wait for it keep waiting."""
        refusal = slurm_commands.requeue(job)
        log.info("requeue of job %s: %s", job.id, refusal or "accepted")
        return refusal is None

    def cancel(self, jobs: Collection[JobRef]) -> None:
        """With one scancel."""
        if jobs:
            slurm_commands.cancel(jobs)

    def why_stopped(self, job: JobRef, number: Signals) -> Interruption:
        """Slurm is asked: SIGTERM comes at scancel, at preemption and, where SIGUSR2 was not sent, at the limit.

        A site may send SIGUSR2 at preemption too.
        """
        shown = slurm_commands.show_job(job)
        if re.search(r"\bPreemptTime=\d", shown):
            return "preempted"
        if re.search(r"\b(JobState=TIMEOUT|Reason=TimeLimit)\b", shown):
            return "timeout"
        return by_signal_alone(number)

    def at_once(self, ranks: int) -> int:
        """As many as an array may run elements."""
        return self.cluster.array_parallelism

    def memory_of_rank(self, ranks: int, work: WorkClass) -> tuple[str, int]:
        """What a job of this class asks Slurm for."""
        memory = self.cluster.resources.of(work).memory_gb
        return f"cluster.resources.{work}.memory_gb={memory:g}", int(memory * 2**30)

    def shape_problems(self, kind: str, ranks: int, nodes: int) -> Iterator[str]:
        """More ranks on a node than it takes."""
        limit, key = self._limit()
        if ranks // nodes > limit:
            yield (
                f"{kind}.layout puts {ranks // nodes} ranks on a node, but cluster.{key} is {limit}; "
                f"raise {kind}.layout.nodes"
            )

    def profile_problems(self) -> Iterator[str]:
        """None: whether the site has what the profile says, sbatch knows."""
        yield from ()

    def _limit(self) -> tuple[int, str]:
        """The most ranks of a training on a node, and the key that sets it."""
        by_profile = (self.cluster.ranks_per_node, "ranks_per_node")
        gpus = self.cluster.resources.gpu_train.gpus_per_node
        return min(by_profile, (gpus, "resources.gpu_train.gpus_per_node")) if gpus else by_profile


class RenderingExecutor(submitit.SlurmExecutor):
    """submitit's Slurm executor, usable where Slurm is not installed, to see the script it would submit."""

    @classmethod
    def affinity(cls) -> int:
        """Pretend that srun is here; nothing is submitted by this class."""
        return 1

    def script(self, elements: int) -> str:
        """The text that would be given to sbatch."""
        if elements > 1:
            self.parameters["map_count"] = elements
        return str(self._make_submission_file_text(self._submitit_command_str, ""))


def _parameters(cluster: Cluster, request: ArrayRequest) -> dict[str, Any]:
    """submitit's parameters, in the order of the script they make."""
    resources = cluster.resources.of(request.work)
    threads = f"export OMP_NUM_THREADS={resources.cpus_per_rank}"
    optional = {
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "gpus_per_node": request.ranks_per_node if resources.gpus_per_node else None,
        "dependency": request.dependency or None,
    }
    return {
        "job_name": request.name,
        "nodes": request.nodes,
        "ntasks_per_node": request.ranks_per_node,
        "cpus_per_task": resources.cpus_per_rank,
        "mem": f"{round(resources.memory_gb * 1024) * request.ranks_per_node}MB",
        "time": resources.time_minutes,
        "array_parallelism": cluster.array_parallelism,
        "wckey": None,
        "additional_parameters": {"kill-on-invalid-dep": "yes", **resources.sbatch},
        "setup": [*cluster.setup, threads],
        # Since Slurm 22.05 srun does not read cpus-per-task from the script; WaitTime would kill a rank 0 that hashes.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={resources.cpus_per_rank}", "--wait=0"],
        **{name: value for name, value in optional.items() if value is not None},
    }
