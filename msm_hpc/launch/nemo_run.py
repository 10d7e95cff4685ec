"""Job arrays on Slurm whose scripts NeMo-Run writes: for those who have a container and an executor of its kind.

What a job does is ours, as :mod:`msm_hpc.launch.slurm_script` has it. What is around that is NeMo-Run's: its options of
sbatch, its variables, its flags for Pyxis. The jobs are Slurm's, with ids and logs as all others have, so that they are
asked about, stopped and put back into the queue alike. NeMo-Run's experiments, its folder in the home and its way of
putting a job back (whatever failed, and at once) are not used.
"""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.launch.slurm_script import ScriptExecutor, render

INSTALL = "pip install 'nemo_run>=0.11,<0.12' 'leptonai<0.30'"
"""NeMo-Run imports leptonai, of which newer versions lack what it wants."""
KEY = "cluster.nemo_run.executor"
SAME = ("partition", "qos", "constraint", "nodes", "ntasks_per_node", "cpus_per_task", "gpus_per_node", "mem")
"""Parameters of submitit's that NeMo-Run's executor has under the same names."""
MORE = ("container_env", "srun_args")
"""Lists that the user's are added to."""
SAID_ELSEWHERE = {
    "container": ("container_image", "container_mounts"),
    "environment": ("env_vars",),
    "resources": ("account", "partition", "qos", "constraint", "cpus_per_task", "gpus_per_node", "mem", "time"),
    "resources.CLASS.sbatch": ("additional_parameters", "comment", "exclude", "exclusive"),
    "setup": ("setup_lines",),
}
"""The fields of the executor that a key of the cluster says."""
NOT_USED = {
    *("nodes", "ntasks_per_node", "array", "signal", "job_dir", "job_details", "job_name_prefix", "open_mode"),
    *("tunnel", "packager", "launcher", "retries", "experiment_id", "dependencies", "dependency_type"),
    *("heterogeneous", "het_group_indices", "memory_measure", "torchrun_nproc_per_node", "ray_template"),
    *("wait_time_for_group_job", "monitor_group_job", "monitor_group_job_wait_time", "poll_estimated_start_time"),
}
"""Those that follow from what is submitted, and of NeMo-Run's ways to submit, package and start ranks."""


@dataclass(frozen=True)
class NemoRunLauncher(SlurmLauncher):
    """Queues jobs with scripts of NeMo-Run's; see :class:`msm_hpc.launch.launcher.Launcher`."""

    def render(self, folder: Path, request: ArrayRequest) -> str:
        """The sbatch script of an array, as it is submitted.

        Raises:
            UserError: NeMo-Run is not here, or is told what it does not know.
        """
        return render(self.cluster, folder, request, partial(NemoScript, cluster=self.cluster))

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        """Submit the array with one sbatch; NeMo-Run starts ranks in ``code/`` of its folder, which is the root."""
        (folder.parent / "code").mkdir(parents=True, exist_ok=True)
        return super().submit(folder, request)

    def profile_problems(self) -> Iterator[str]:
        """That NeMo-Run is not here or lacks a field, too."""
        yield from super().profile_problems()
        try:
            check_executor(self.cluster.nemo_run.executor, load())
        except UserError as error:
            yield str(error)
        tunnel = self.cluster.nemo_run.tunnel
        if tunnel and tunnel.user != user_name():
            yield (
                f"cluster.nemo_run.tunnel.user={tunnel.user}, but here you are {user_name()}: the root folder is "
                "shared, and jobs run their own user's code only; be the same user, or run msm on that host"
            )


def load() -> Any:
    """The module of NeMo-Run's Slurm executor; importing it takes seconds.

    Raises:
        UserError: it cannot be imported.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            from nemo_run.core.execution import slurm
    except ImportError as error:
        raise UserError(f"cluster.launcher=nemo_run needs NeMo-Run, and here {error}. Run: {INSTALL}") from error
    return slurm


def check_executor(given: Mapping[str, Any], slurm: Any) -> None:
    """Check that NeMo-Run's executor has the fields that a profile sets, and that nothing else sets them.

    Raises:
        UserError: it has not, or something does.
    """
    elsewhere = {name: key for key, names in SAID_ELSEWHERE.items() for name in names}
    known = {field.name for field in fields(slurm.SlurmExecutor) if field.init} - NOT_USED - elsewhere.keys()
    for name in given:
        if name in elsewhere:
            raise UserError(f"{KEY}.{name}: set it by cluster.{elsewhere[name]}")
        if name not in known:
            raise UserError(
                f"{KEY}.{name}: no field of SlurmExecutor to be set here; there are {', '.join(sorted(known))}"
            )


@dataclass
class LogFiles:
    """Where the script and srun write, by NeMo-Run's names; ``job`` stands in the names of the files."""

    job_name: str
    folder: str
    job: str

    @property
    def stdout(self) -> str:
        """Of the script, which shares the file of rank 0."""
        return f"{self.folder}/{self.job}_0_log.out"

    @property
    def stderr(self) -> str:
        """Likewise."""
        return f"{self.folder}/{self.job}_0_log.err"

    @property
    def srun_stdout(self) -> str:
        """Of each rank, quoted."""
        return shlex.quote(f"{self.folder}/{self.job}_%t_log.out")

    @property
    def srun_stderr(self) -> str:
        """Likewise."""
        return shlex.quote(f"{self.folder}/{self.job}_%t_log.err")


class NemoScript(ScriptExecutor):
    """Has NeMo-Run write the script that submitit would write of the same parameters."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self._cluster = cluster

    def _make_submission_file_text(self, command: str, uid: str) -> str:
        """NeMo-Run's script as far as the srun of ``command``; after that it would put back whatever failed."""
        slurm = load()
        check_executor(self._cluster.nemo_run.executor, slurm)
        folder = f"/{slurm.RUNDIR_NAME}"
        if not self._cluster.container and any(folder in text for text in (command, *self.parameters["setup"])):
            raise UserError(
                f"{folder} is in a path of {command}, or of cluster.setup or environment, and NeMo-Run puts its own "
                "folder there where jobs run in no container: use another name, or cluster.launcher=slurm"
            )
        request = slurm.SlurmBatchRequest(
            launch_cmd=["sbatch"],
            jobs=[self.parameters["job_name"]],
            command_groups=[[command]],
            executor=self._executor(slurm),
            max_retries=0,
            extra_env={"SUBMITIT_EXECUTOR": "slurm"},
        )
        before, srun, _ = request.materialize().partition(f" {command}\n")
        return f"{before}{srun}"

    def _executor(self, slurm: Any) -> Any:
        """The executor that says the same as submitit's parameters; what NeMo-Run does not quote is quoted here."""
        given, container, theirs = self.parameters, self._cluster.container, self._cluster.nemo_run.executor
        elements = given.get("map_count")
        dependency = {"dependency": given["dependency"]} if "dependency" in given else {}
        args = [shlex.quote(arg) for arg in given["srun_args"] if not arg.startswith("--container-")]
        env = [arg.partition("=")[2] for arg in given["srun_args"] if arg.startswith("--container-env=")]
        executor = slurm.SlurmExecutor(
            **{name: given[name] for name in SAME if name in given},
            **{name: value for name, value in theirs.items() if name not in MORE},
            account=given.get("account"),
            time=str(given["time"]),
            signal=f"USR2@{given['signal_delay_s']}",
            array=f"0-{elements - 1}%{min(elements, given['array_parallelism'])}" if elements else None,
            setup_lines="\n".join(given["setup"]),
            srun_args=[*args, *_words(theirs, "srun_args")],
            additional_parameters={**given["additional_parameters"], **dependency},
            container_image=shlex.quote(container.image) if container else None,
            container_mounts=[shlex.quote(mount) for mount in container.mounts] if container else [],
            container_env=[*env, *_words(theirs, "container_env")] or None,
            job_name_prefix="msm-",
            job_details=LogFiles(given["job_name"], str(self.folder), "%A_%a" if elements else "%j"),
            tunnel=slurm.LocalTunnel(job_dir=shlex.quote(str(self.folder.parent))),
        )
        executor.stderr_to_stdout = False
        return executor


def _words(given: Mapping[str, Any], name: str) -> list[str]:
    """A list of the user's, or its only word."""
    value = given.get(name, ())
    return list(value) if isinstance(value, tuple) else [str(value)]
