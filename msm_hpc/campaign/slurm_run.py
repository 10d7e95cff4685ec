"""Submit a campaign as job arrays with dependencies, and return: no process of ours keeps running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.arrays import Array, Dependency, plan_arrays
from msm_hpc.graph.build import Graph
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.launcher import launcher_of, launcher_of_job, living
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class SubmissionPlan:
    """What a run would submit, and what it leaves alone.

    ``done`` counts the steps that are done or that nothing unfinished needs; ``running`` maps the identity of a step
    to its queued or running job, of this campaign or another.
    """

    campaign: str
    arrays: tuple[Array, ...]
    done: int
    running: dict[str, JobRef]


def plan_submission(campaign: str, graph: Graph, store: Store, cluster: Cluster) -> SubmissionPlan:
    """Arrays for the steps that are neither done nor running.

    Raises:
        UserError: a local run has one of the steps running, which no Slurm job can wait for.
    """
    needed = graph.needed(store.done)
    leases = {step.identity: store.of(step).lease() for step in needed}
    alive = living([lease for lease in leases.values() if lease is not None])
    running = {key: job for key, job in leases.items() if job is not None and job in alive}
    for job in running.values():
        if not launcher_of_job(job).queues:
            raise UserError(
                f"process {job.id} on {job.host} is running a step of this campaign; let it end, or stop it"
            )
    wanted = [step for step in needed if step.identity not in running]
    arrays = plan_arrays(wanted, cluster.max_array_size)
    return SubmissionPlan(campaign, arrays, len(graph.steps) - len(needed), running)


def scripts(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[str]:
    """The sbatch script of every array, with ``{NAME}`` for the job ids that are not known before submission."""
    launcher = launcher_of(cluster)
    names = [f"{{{array.name}}}" for array in plan.arrays]
    return [launcher.render(store.jobs, _request(array, names, plan, store)) for array in plan.arrays]


def submit_all(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[list[JobRef]]:
    """Submit the arrays in order; the lease of every step names its array element.

    Raises:
        UserError: sbatch refuses an array; what was submitted before stays submitted, and the next run submits
            the rest.
    """
    store.register(tuple(step for array in plan.arrays for step in array.steps))
    launcher = launcher_of(cluster)
    submitted: list[list[JobRef]] = []
    for array in plan.arrays:
        ids = [jobs[0].id.partition("_")[0] for jobs in submitted]
        jobs = launcher.submit(store.jobs, _request(array, ids, plan, store))
        for step, job in zip(array.steps, jobs, strict=True):
            store.of(step).write_lease(job)
        submitted.append(jobs)
    return submitted


def _request(array: Array, ids: Sequence[str], plan: SubmissionPlan, store: Store) -> ArrayRequest:
    step = array.shape
    waits = [_sbatch(dependency, ids) for dependency in array.dependencies]
    outside = {plan.running[p.identity].id for s in array.steps for p in s.parents if p.identity in plan.running}
    waits += [f"afterany:{job}" for job in sorted(outside)]
    return ArrayRequest(
        name=f"msm-{plan.campaign}-{array.name}",
        work=step.definition.resources,
        function=run_step,
        given=(str(store.root),),
        each=tuple(step.id for step in array.steps),
        nodes=step.nodes,
        ranks_per_node=step.ranks_per_node,
        dependency=",".join(waits),
    )


def _sbatch(dependency: Dependency, ids: Sequence[str]) -> str:
    """A dependency in sbatch's syntax, such as ``afterok:64_0:64_3``."""
    job = ids[dependency.array]
    elements = [job] if dependency.elements is None else [f"{job}_{element}" for element in dependency.elements]
    return f"{dependency.rule}:{':'.join(elements)}"
