"""Job arrays on Slurm, through submitit: the script is rendered the same way for ``msm plan`` and for sbatch."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from msm_hpc.base.errors import UserError
from msm_hpc.config.campaign import Cluster
from msm_hpc.launch.jobs import JobRef


@dataclass(frozen=True)
class ArrayRequest:
    """A job array: ``elements`` calls of one shape, which wait for ``dependency`` (sbatch's syntax, or empty)."""

    name: str
    elements: int
    nodes: int
    ranks_per_node: int
    gpus_per_node: int
    dependency: str


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


def render(folder: Path, cluster: Cluster, request: ArrayRequest) -> str:
    """The sbatch script of an array; nothing is written or submitted."""
    executor = RenderingExecutor(folder)
    executor.update_parameters(**_parameters(cluster, request))
    return executor.script(request.elements)


def submit(
    folder: Path, cluster: Cluster, request: ArrayRequest, function: Callable[..., None], calls: Sequence[Sequence[str]]
) -> list[JobRef]:
    """Submit ``function(*call)`` for each of ``calls`` as one array, with one sbatch; returns a job for each.

    Raises:
        UserError: there is no Slurm here, or sbatch refuses the script.
    """
    assert len(calls) == request.elements
    if submitit.SlurmExecutor.affinity() < 0:
        raise UserError("cluster=slurm, but srun is not on the PATH; run on a login node, or use cluster=local")
    executor = submitit.SlurmExecutor(folder)
    executor.update_parameters(**_parameters(cluster, request))
    try:
        jobs = executor.map_array(function, *zip(*calls, strict=True))
    except (FailedJobError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"sbatch refused {request.name}: {_reason(str(error))}; mend the cluster profile (or wait, at a limit of "
            "queued jobs) and run again: what was submitted before stays"
        ) from error
    return [JobRef("slurm", job.job_id) for job in jobs]


def _parameters(cluster: Cluster, request: ArrayRequest) -> dict[str, Any]:
    """submitit's parameters, in the order of the script they make."""
    threads = f"export OMP_NUM_THREADS={cluster.cpus_per_rank}"
    optional = {
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "gpus_per_node": request.gpus_per_node or None,
        "dependency": request.dependency or None,
    }
    return {
        "job_name": request.name,
        "nodes": request.nodes,
        "ntasks_per_node": request.ranks_per_node,
        "cpus_per_task": cluster.cpus_per_rank,
        "mem": f"{round(cluster.memory_gb * 1024) * request.ranks_per_node}MB",
        "time": cluster.time_minutes,
        "array_parallelism": cluster.array_parallelism,
        "wckey": None,
        "additional_parameters": {"kill-on-invalid-dep": "yes", **cluster.additional},
        "setup": [*cluster.setup, threads],
        # Since Slurm 22.05 srun does not read cpus-per-task from the script; WaitTime would kill a rank 0 that hashes.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cluster.cpus_per_rank}", "--wait=0"],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _reason(error: str) -> str:
    """sbatch's own words in submitit's error."""
    found = re.findall(r"sbatch: error: (.*)", error)
    return "; ".join(found) or error
