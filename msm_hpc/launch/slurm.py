"""Job arrays on Slurm, through submitit: the script is rendered the same way for ``msm plan`` and for sbatch."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import Signals
from typing import Any

import submitit

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Resources, Work
from msm_hpc.launch import entry, slurm_commands, slurm_ends, slurm_nodes, slurm_site
from msm_hpc.launch.allocation import shell_line
from msm_hpc.launch.causes import Finding, JobEnd, by_signal_alone
from msm_hpc.launch.job import RUN, JobRef, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.refusals import key_to_change
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.several import SEVERAL, STOPPED
from msm_hpc.launch.slurm_site import Site

log = logging.getLogger(__name__)
NO_SBATCH = "cluster=slurm, but sbatch is not on the PATH; run on a login node, or use cluster=local"
HIDDEN = JobState("unknown", "squeue may not show it here: it is of another user or cluster")


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
        """The sbatch script of an array, as it is submitted."""
        executor = ScriptExecutor(folder)
        executor.update_parameters(**_parameters(self.cluster, request))
        return executor.script(request, self.cluster.container.python if self.cluster.container else sys.executable)

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        """Submit the array with one sbatch.

        Raises:
            UserError: there is no Slurm here, or sbatch refuses the script.
        """
        if not slurm_commands.can_submit():
            raise UserError(NO_SBATCH)
        cluster = self.name  # ahead of sbatch: when there is a job, nothing may fail any more
        folder.mkdir(parents=True, exist_ok=True)
        answer = slurm_commands.sbatch(self.render(folder, request))
        job = answer.job or self.submitted({request.token} - {""}).get(request.token)  # it may have been only slow
        if job is None:
            raise UserError(f"sbatch refused {request.name}: {answer.refusal}")
        return jobs_of_array(job, request.elements, time.time(), cluster)

    def submitted(self, tokens: Collection[str]) -> Mapping[str, str]:
        """The ids of those of the arrays with these tokens that squeue shows; one that has ended is not missed."""
        return slurm_commands.jobs_of(tokens)

    @property
    def name(self) -> str:
        """The name of the Slurm cluster here.

        Raises:
            UserError: Slurm does not answer.
        """
        return slurm_commands.settings().get("ClusterName", "")

    def hidden(self, jobs: Collection[JobRef]) -> Collection[JobRef]:
        """Those of ``jobs`` that may live without being shown here."""
        return slurm_commands.hidden(jobs)

    def elsewhere(self, jobs: Collection[JobRef]) -> Collection[JobRef]:
        """Those of ``jobs`` that cannot be waited for or cancelled by their id: they are of another cluster."""
        return set(jobs) - slurm_commands.here(jobs)

    def withdraw(self, jobs: Iterable[JobRef]) -> None:
        """Cancel those of this cluster that have not started; the others run on.

        Slurm is asked which those are: with --state=PENDING scancel drops all of an array for one element.
        """
        given = slurm_commands.here(set(jobs))
        pending = {job for job, state in slurm_commands.queue(given).items() if state.word == "pending"}
        slurm_commands.cancel([job for job in given if job.id in pending])

    def refusals(self, folder: Path, requests: Iterable[ArrayRequest]) -> Iterator[str]:
        """Why sbatch would refuse arrays, each with the key to change; one of each shape is asked about."""
        shapes = {
            (self.cluster.resources.of(each.work), each.nodes, each.ranks_per_node): each
            for each in sorted(requests, key=lambda request: request.elements)
        }
        if shapes and not slurm_commands.can_submit():
            yield NO_SBATCH
            return
        for request in shapes.values():
            script = self.render(folder, replace(request, dependency="", token=""))
            if refusal := slurm_commands.sbatch(script, "--test-only").refusal:
                if slurm_commands.is_silent(refusal):
                    return  # nothing was refused, and asking again for each shape would take as long each time
                key = key_to_change(refusal, self.cluster.resources, request.work)
                yield f"sbatch would refuse {request.name}: {refusal}; {key}"

    def states(self, jobs: Collection[JobRef]) -> dict[JobRef, JobState]:
        """As squeue shows it; unknown of those that it would not show here."""
        here = slurm_commands.here(jobs)
        queue = slurm_commands.queue(here)
        shown = {job: queue[job.id] for job in here if job.id in queue}
        return shown | dict.fromkeys(slurm_commands.hidden(set(jobs) - shown.keys()), HIDDEN)

    def ends(self, jobs: Collection[JobRef]) -> dict[JobRef, JobEnd]:
        """What Slurm keeps of each job of this cluster and of its steps."""
        here = slurm_commands.here(jobs)
        ends = slurm_ends.ends(here)
        return {job: ends[job.id] for job in here if job.id in ends}

    def requeue(self, job: JobRef, pause: float = 0, avoid: Collection[str] = ()) -> bool:
        """Under the job's id, so that jobs that wait for it keep waiting."""
        nodes, partition = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")), os.environ.get("SLURM_JOB_PARTITION")
        own = slurm_commands.excluded_by(job) if avoid else ""
        exclude = slurm_nodes.more_excluded(own, [*avoid], partition, nodes)
        refusal = slurm_commands.requeue(job, pause, exclude)
        log.info("requeue of job %s: %s", job.id, refusal or "accepted")
        return refusal is None

    def cancel(self, jobs: Collection[JobRef]) -> None:
        """With one scancel."""
        if elsewhere := sorted(f"{job.id} of cluster {job.cluster}" for job in self.elsewhere(jobs)):
            raise UserError(f"job {', '.join(elsewhere)} cannot be cancelled from here; log in there")
        slurm_commands.cancel(jobs)

    def why_stopped(self, job: JobRef, number: Signals) -> Finding:
        """Slurm is asked: SIGTERM comes at scancel, at preemption and, where SIGUSR2 was not sent, at the limit.

        A site may send SIGUSR2 at preemption too. A job that is to run again has lost a node, or an administrator has
        requeued it.
        """
        shown = slurm_commands.show_job(job)
        if found := re.search(r"\bPreemptTime=\d\S*", shown):
            return Finding("preempted", f"scontrol: {found[0]}")
        if restarts := slurm_commands.requeued(shown):
            lost = self.down(slurm_nodes.of_list(os.environ.get("SLURM_JOB_NODELIST", "")))
            if lost:
                return Finding("node", "; ".join([restarts, *lost.values()]), tuple(lost))
            return Finding("preempted", restarts)
        if found := re.search(r"\b(JobState=TIMEOUT|Reason=TimeLimit)\b", shown):
            return Finding("timeout", f"scontrol: {found[0]}")
        return by_signal_alone(number)

    def down(self, hosts: Collection[str]) -> Mapping[str, str]:
        """Those that Slurm takes to be down; it knows them by their short names."""
        return slurm_nodes.down({host.partition(".")[0] for host in hosts})

    def at_once(self, ranks: int) -> int:
        """As many as an array may run elements."""
        return self.cluster.array_parallelism

    def memory_of_rank(self, ranks: int, work: Work) -> tuple[str, int]:
        """What such a job asks Slurm for."""
        memory = self.cluster.resources.of(work).memory_gb
        return f"{self.cluster.resources.key(work, 'memory_gb')}={memory:g}", int(memory * 2**30)

    def shape_problems(self, kind: str, ranks: int, nodes: int) -> Iterator[str]:
        """More ranks on a node than it takes."""
        limit, key = self._limit()
        if ranks // nodes > limit:
            yield (
                f"{kind}.layout puts {ranks // nodes} ranks on a node, but cluster.{key} is {limit}; "
                f"raise {kind}.layout.nodes"
            )

    def profile_problems(self) -> Iterator[str]:
        """A value of more than one line, which would end its line of the script; whatever else sbatch refuses."""
        for key, value in _texts("cluster.resources", asdict(self.cluster.resources)):
            if "\n" in value:
                yield f"{key} has a line break; write it on one line"

    @property
    def max_array_size(self) -> int:
        """The most elements of an array: as the profile says, else as Slurm does, else Slurm's own default."""
        return self.cluster.max_array_size or slurm_site.read_limits().array_size

    def site(self) -> Site | None:
        """As Slurm's commands say it, where they are."""
        return slurm_site.read_site()

    def _limit(self) -> tuple[int, str]:
        """The most ranks of a training on a node, and the key that sets it."""
        by_profile = (self.cluster.ranks_per_node, "ranks_per_node")
        gpus = self.cluster.resources.gpu_train.gpus_per_node
        return min(by_profile, (gpus, "resources.gpu_train.gpus_per_node")) if gpus else by_profile


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text of nested settings, with its key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(f"{key}.{name}", inner)
    elif isinstance(value, str):
        yield key, value


def jobs_of_array(job: str, elements: int, submitted: float, cluster: str) -> list[JobRef]:
    """The jobs of an array of this user that sbatch gave the id ``job``."""
    ids = [f"{job}_{element}" for element in range(elements)] if elements > 1 else [job]
    return [JobRef("slurm", each, started=submitted, user=user_name(), cluster=cluster) for each in ids]


class ScriptExecutor(submitit.SlurmExecutor):
    """submitit's Slurm executor as the writer of scripts: its jobs would load a pickle, ours are told their call."""

    @classmethod
    def affinity(cls) -> int:
        """Pretend that srun is here, so that scripts can be looked at where it is not."""
        return 1

    def script(self, request: ArrayRequest, python: str) -> str:
        """The text that is given to sbatch."""
        if request.gate:
            check = entry.command(self.folder, request.gate, *request.given, python=python)
            srun = shlex.join(["srun", "--unbuffered", *self.parameters["srun_args"]])
            gate = f"SUBMITIT_EXECUTOR=slurm {srun} {check} || exit 1"
            self.parameters["setup"] = [*self.parameters["setup"], gate]
        call = entry.command(self.folder, request.function, *request.given, python=python)
        items = shlex.join(request.each[0])
        if request.elements > 1:
            each = shlex.join(" ".join(items) for items in request.each)
            self.parameters["map_count"] = request.elements
            self.parameters["setup"] = [*self.parameters["setup"], f"each=({each})"]
            items = "${each[SLURM_ARRAY_TASK_ID]}" if request.several else '"${each[SLURM_ARRAY_TASK_ID]}"'
        if request.several:
            self.parameters["setup"] = [*self.parameters["setup"], f"export {SEVERAL}=1"]
        if not request.several or request.ranks == 1:
            return str(self._make_submission_file_text(f"{call} {items}", ""))
        return self._in_turn(str(self._make_submission_file_text(f'{call} "$item"', "")), items)

    def _in_turn(self, script: str, items: str) -> str:
        """``script``, which ends with the srun of one ``$item``, with a loop around that.

        The job failed if no item was made: what reads the others is to run. It ends where an item was stopped.
        """
        *before, srun = script.rstrip().splitlines()
        stopped = f"{shlex.quote(str(self.folder))}/.{STOPPED}.${RUN}"
        loop = ("made=false", f"for item in {items}; do", f"  {srun} && made=true", f"  [[ ! -e {stopped} ]] || exit 1")
        return "\n".join((*before, *loop, "done", "$made", ""))


def _parameters(cluster: Cluster, request: ArrayRequest) -> dict[str, Any]:
    """submitit's parameters, in the order of the script they make."""
    resources = _resources(cluster, request)
    minutes = min(request.minutes or resources.time_minutes, resources.time_minutes)
    variables = [f"export {name}={shlex.quote(value)}" for name, value in cluster.environment.items()]
    variables += [f"export OMP_NUM_THREADS={resources.cpus_per_rank}", f"export {RUN}=$(</proc/sys/kernel/random/uuid)"]
    # What the site says of these stays in front.
    comment = {"comment": f"{resources.sbatch.get('comment', '')} {request.token}".strip()} if request.token else {}
    avoid = slurm_nodes.excluded(request.avoid, resources.partition, request.nodes)
    exclude = {"exclude": ",".join(filter(None, (str(resources.sbatch.get("exclude", "")), *avoid)))} if avoid else {}
    options = {"kill-on-invalid-dep": "yes", "requeue": True, **resources.sbatch, **comment, **exclude}
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
        "time": minutes,
        "signal_delay_s": min(90, 15 * minutes),  # Slurm may send it up to a minute earlier
        "array_parallelism": cluster.array_parallelism,
        "wckey": None,
        "additional_parameters": {key: value for key, value in options.items() if value is not False},
        "setup": [shell_line(request.nodes * request.ranks_per_node), *cluster.setup, *variables, *_code(request)],
        # Since Slurm 22.05 srun does not read cpus-per-task from the script; WaitTime would kill a rank 0 that hashes.
        "srun_args": [
            "--kill-on-bad-exit=1",
            f"--cpus-per-task={resources.cpus_per_rank}",
            "--wait=0",
            *_in_container(cluster, request),
        ],
        **{name: value for name, value in optional.items() if value is not None},
    }


def _resources(cluster: Cluster, request: ArrayRequest) -> Resources:
    """Those of the array's work, with memory and CPUs for all that its jobs do."""
    resources = cluster.resources.of(request.work)
    every = [resources, *map(cluster.resources.of, request.also)]
    return replace(
        resources,
        memory_gb=max(each.memory_gb for each in every),
        cpus_per_rank=max(each.cpus_per_rank for each in every),
    )


def _code(request: ArrayRequest) -> list[str]:
    """Lines that have Python find the packages in ``request.code`` first, if that is this user's own folder."""
    if request.code is None:
        return []
    folder = shlex.quote(str(request.code))
    gone = shlex.quote(f"{request.code} is gone or not yours: run `msm run` again")
    return [
        f"[[ -O {folder} ]] || {{ echo {gone} >&2; exit 1; }}",
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
