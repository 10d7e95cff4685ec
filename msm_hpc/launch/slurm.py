"""Job arrays on Slurm: their scripts are rendered the same way for ``msm plan`` and for sbatch."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from signal import Signals
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Cluster, Work
from msm_hpc.launch import slurm_commands, slurm_ends, slurm_nodes, slurm_requeue, slurm_script, slurm_site
from msm_hpc.launch.causes import Finding, JobEnd, by_signal_alone
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.refusals import NO_NODES, key_to_change, refused
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm_site import Site

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
        return slurm_script.render(self.cluster, folder, request)

    def submit(self, folder: Path, request: ArrayRequest) -> list[JobRef]:
        """Submit the array with one sbatch.

        Raises:
            QueueFullError: no more jobs of this user may be queued now.
            UserError: there is no Slurm here, or sbatch refuses the script.
        """
        if not slurm_commands.can_submit():
            raise UserError(NO_SBATCH)
        cluster = self.name  # ahead of sbatch: when there is a job, nothing may fail any more
        folder.mkdir(parents=True, exist_ok=True)
        answer = slurm_commands.sbatch(self.render(folder, request))
        job = answer.job or self.submitted({request.token} - {""}).get(request.token)  # it may have been only slow
        if job is None:
            raise refused(request.name, answer.refusal)
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

    def withdraw(self, jobs: Iterable[JobRef]) -> list[JobRef]:
        """Cancel those of this cluster that have not started, and return them; the others run on.

        Slurm is asked which those are: with --state=PENDING scancel drops all of an array for one element.
        """
        given = slurm_commands.here(set(jobs))
        pending = {job for job, state in slurm_commands.queue(given).items() if state.word == "pending"}
        waiting = [job for job in given if job.id in pending]
        slurm_commands.cancel(waiting)
        return waiting

    def refusals(self, folder: Path, requests: Iterable[ArrayRequest]) -> Iterator[str]:
        """Why sbatch would refuse arrays, each with the key to change; one of each shape is asked about."""
        shapes = {
            (self.cluster.resources.of(each.work), each.nodes, each.ranks_per_node * each.lanes): each
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
                partition = self.cluster.resources.of(request.work).partition
                if re.search(NO_NODES, refusal) and slurm_nodes.some_are_away(partition):
                    continue  # sbatch itself takes such a job, which waits for them
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
        """Under the job's id, so that jobs that wait for it keep waiting; beside others only once these have ended."""
        return slurm_requeue.requeue(job, pause, avoid)

    def run_again_after(self, job: JobRef, ahead: Collection[str]) -> bool:
        """Have the job of this process run again once any of the jobs ``ahead`` has ended; returns whether it will."""
        refusal = slurm_commands.requeue(job, after=ahead)
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
        """As many as an array may run elements, and each of these lanes."""
        return self.cluster.array_parallelism * self.lanes(Work("gpu_train"), ranks)

    def lanes(self, work: Work, ranks: int, nodes: int = 1) -> int:
        """How many steps of so many ranks run side by side in a job: more than one on a node that it has for itself."""
        alone = not self.cluster.exclusive or nodes > 1
        return 1 if alone else max(slurm_script.ranks_on_a_node(self.cluster, work) // ranks, 1)

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
