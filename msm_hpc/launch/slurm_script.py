"""The sbatch script of a job array, in the order in which it is written; through submitit.

Where a job makes steps side by side, it has a lane for each, a chain of steps with its share of the node::

    lane() { srun --exact … "$@"; }
    for number in 0 1; do MSM_LANE=$number lane … & done       wait for all; one srun more puts the job back, if asked
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from msm_hpc.config.cluster import Cluster, Resources, Work
from msm_hpc.launch import entry, slurm_nodes, slurm_requeue
from msm_hpc.launch.allocation import MEMORY, shell_line
from msm_hpc.launch.job import RUN
from msm_hpc.launch.request import BESIDE, ArrayRequest
from msm_hpc.launch.several import AGAIN, LANE, SEVERAL, STOPPED


def render(
    cluster: Cluster, folder: Path, request: ArrayRequest, writer: Callable[[Path], ScriptExecutor] | None = None
) -> str:
    """The script of an array whose logs go to ``folder``; ``writer`` writes it, if not submitit does."""
    executor = (writer or ScriptExecutor)(folder)
    executor.update_parameters(**_parameters(cluster, request))
    python = cluster.container.python if cluster.container else sys.executable
    return executor.script(request, python, _of_a_lane(cluster, request) if request.lanes > 1 else ())


class ScriptExecutor(submitit.SlurmExecutor):
    """submitit's Slurm executor as the writer of scripts: its jobs would load a pickle, ours are told their call."""

    @classmethod
    def affinity(cls) -> int:
        """Pretend that srun is here, so that scripts can be looked at where it is not."""
        return 1

    def script(self, request: ArrayRequest, python: str, of_a_lane: Sequence[str] = ()) -> str:
        """The text that is given to sbatch; ``of_a_lane`` is what srun is told of one of several lanes."""
        srun, setup = shlex.join(["srun", "--unbuffered", *self.parameters["srun_args"]]), [*self.parameters["setup"]]
        if request.gate:
            check = entry.command(self.folder, request.gate, *request.given, python=python)
            setup.append(f"SUBMITIT_EXECUTOR=slurm {srun} {check} || exit 1")
        items = shlex.join(request.each[0])
        if request.elements > 1:
            self.parameters["map_count"] = request.elements
            setup.append(f"each=({shlex.join(' '.join(items) for items in request.each)})")
            items = "${each[SLURM_ARRAY_TASK_ID]}" if request.several else '"${each[SLURM_ARRAY_TASK_ID]}"'
        if request.several:
            setup.append(f"export {SEVERAL}=1")
        self.parameters["setup"] = setup
        self.parameters["srun_args"] = [*self.parameters["srun_args"], *of_a_lane]
        call = entry.command(self.folder, request.function, *request.given, python=python)
        if request.lanes > 1:
            again = entry.command(self.folder, slurm_requeue.requeue_if_asked, python=python)
            once = f"{srun} --exact --nodes=1 --ntasks=1 --ntasks-per-node=1 {again}"
            given = f'"{items}"' if request.elements > 1 else shlex.quote(" ".join(request.each[0]))
            return self._side_by_side(call, given, once)
        return str(self._make_submission_file_text(f"{call} {items}", ""))

    def _mark(self, word: str) -> str:
        return f"{shlex.quote(str(self.folder))}/.{word}.${RUN}"

    def _side_by_side(self, call: str, items: str, again: str) -> str:
        """A script that makes the ``items`` of each lane beside those of the others, and waits until all have ended.

        If one was stopped, the job failed, and ``again`` puts it back into the queue where that is asked for.
        """
        stopped, asked = self._mark(STOPPED), f"{self._mark(AGAIN)}.*"
        *before, srun = str(self._make_submission_file_text(f'{call} "$@"', "")).rstrip().splitlines()
        return "\n".join(
            (
                *before,
                "lane() {",
                f"  {srun}",
                "}",
                f"IFS='{BESIDE}' read -ra lanes <<<{items}",
                'for number in "${!lanes[@]}"; do',
                f"  {LANE}=$number lane ${{lanes[number]}} &",
                "  started+=($!)",
                "done",
                "made=false",
                'for one in "${started[@]}"; do wait "$one" && made=true; done',
                f"if [[ -e {stopped} ]] || ls {asked} &>/dev/null; then",
                f"  {again}",
                "  exit 1",
                "fi",
                "$made",
                "",
            )
        )


def _parameters(cluster: Cluster, request: ArrayRequest) -> dict[str, Any]:
    """submitit's parameters, in the order of the script they make."""
    resources = _resources(cluster, request)
    minutes = min(request.minutes or resources.time_minutes, resources.time_minutes)
    variables = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    variables += [f"export OMP_NUM_THREADS={resources.cpus_per_rank}", f"export {MEMORY}={_megabytes(resources)}"]
    variables += [f"export {RUN}=$(</proc/sys/kernel/random/uuid)"]
    on_a_node = request.ranks_per_node * request.lanes
    held = max(on_a_node, ranks_on_a_node(cluster, request.work)) if cluster.exclusive else on_a_node
    optional = {
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "gpus_per_node": on_a_node * resources.gpus_per_rank if resources.gpus_per_node else None,
        "dependency": request.dependency or None,
    }
    return {
        "job_name": request.name,
        "nodes": request.nodes,
        "ntasks_per_node": on_a_node,
        "cpus_per_task": resources.cpus_per_rank,
        "mem": _memory(resources, on_a_node),
        "time": minutes,
        "signal_delay_s": min(90, 15 * minutes),  # Slurm may send it up to a minute earlier
        "array_parallelism": cluster.array_parallelism,
        "wckey": None,
        "additional_parameters": _additional(cluster, request, resources),
        "setup": [shell_line(request.nodes * held), *cluster.setup, *variables, *_code(request)],
        # Since Slurm 22.05 srun does not read cpus-per-task from the script; WaitTime would kill a rank 0 that hashes.
        "srun_args": [
            "--kill-on-bad-exit=1",
            f"--cpus-per-task={resources.cpus_per_rank}",
            "--wait=0",
            *_in_container(cluster, request),
        ],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _additional(cluster: Cluster, request: ArrayRequest, resources: Resources) -> dict[str, Any]:
    """Options that submitit has no name for; what the site says of the comment and of nodes stays in front."""
    comment = {"comment": f"{resources.sbatch.get('comment', '')} {request.token}".strip()} if request.token else {}
    avoid = slurm_nodes.excluded(request.avoid, resources.partition, request.nodes)
    exclude = {"exclude": ",".join(filter(None, (str(resources.sbatch.get("exclude", "")), *avoid)))} if avoid else {}
    whole = {"exclusive": True} if cluster.exclusive else {}
    options = {"kill-on-invalid-dep": "yes", "requeue": True, **whole, **resources.sbatch, **comment, **exclude}
    return {key: value for key, value in options.items() if value is not False}


def ranks_on_a_node(cluster: Cluster, work: Work) -> int:
    """The most ranks of a job that a node takes: as the profile says, and with GPUs no more than there are."""
    resources = cluster.resources.of(work)
    gpus = resources.gpus_per_node // resources.gpus_per_rank
    return min(cluster.ranks_per_node, gpus) if resources.gpus_per_node else cluster.ranks_per_node


def _of_a_lane(cluster: Cluster, request: ArrayRequest) -> list[str]:
    """What srun is told of one lane, which gets its share of the job's node."""
    resources, ranks = _resources(cluster, request), request.ranks_per_node
    gpus = [f"--gpus-per-node={ranks * resources.gpus_per_rank}"] if resources.gpus_per_node else []
    tasks = ["--nodes=1", f"--ntasks={ranks}", f"--ntasks-per-node={ranks}"]
    return ["--exact", *tasks, *gpus, f"--mem={_memory(resources, ranks)}"]


def _memory(resources: Resources, ranks: int) -> str:
    return f"{_megabytes(resources) * ranks}MB"


def _megabytes(resources: Resources) -> int:
    """Of a rank."""
    return round(resources.memory_gb * 1024)


def _resources(cluster: Cluster, request: ArrayRequest) -> Resources:
    """Those of the array's work, with memory, CPUs and GPUs for all that its jobs do."""
    resources = cluster.resources.of(request.work)
    every = [resources, *map(cluster.resources.of, request.also)]
    return replace(
        resources,
        memory_gb=max(each.memory_gb for each in every),
        cpus_per_rank=max(each.cpus_per_rank for each in every),
        gpus_per_rank=max(each.gpus_per_rank for each in every),
    )


def _code(request: ArrayRequest) -> list[str]:
    """Lines that have Python find the packages in ``request.code`` first, if that is this user's own folder.

    Its own, not a link to another of its folders, and none that others may write into.
    """
    if request.code is None:
        return []
    folder = shlex.quote(str(request.code))
    gone = shlex.quote(f"{request.code} is gone or not yours: run `msm run` again")
    return [
        f'[[ $(find {folder} -maxdepth 0 -type d -user "$UID" ! -perm /022) ]] || {{ echo {gone} >&2; exit 1; }}',
        f"export PYTHONPATH={folder}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]


def _in_container(cluster: Cluster, request: ArrayRequest) -> list[str]:
    """What srun is told, where the ranks run in a container: of a variable that the image sets, Pyxis keeps that."""
    container = cluster.container
    if container is None:
        return []
    mounts = [f"--container-mounts={','.join(container.mounts)}"] if container.mounts else []
    ours = [*cluster.environment, "OMP_NUM_THREADS", *(["PYTHONPATH"] if request.code else [])]
    return [f"--container-image={container.image}", *mounts, f"--container-env={','.join(ours)}"]
