"""Submit a campaign to Slurm as job arrays with dependencies, and return: nothing of ours stays running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.campaign import Cluster
from msm_hpc.graph.arrays import Array, Dependency, plan_arrays
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.jobs import JobRef, living
from msm_hpc.launch.slurm import ArrayRequest, render, submit
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class SubmissionPlan:
    """What a run would submit, and what it leaves alone.

    ``running`` maps the identity of a step to the living job, of this campaign or another, that makes it.
    """

    arrays: tuple[Array, ...]
    done: tuple[Step, ...]
    running: dict[str, JobRef]


def plan_submission(graph: Graph, store: Store, cluster: Cluster) -> SubmissionPlan:
    """Arrays for the steps that are neither done nor being made.

    Raises:
        UserError: a local run is making one of the steps, which no Slurm job can wait for.
    """
    leases = {step.identity: store.of(step).lease() for step in graph.steps}
    alive = living([lease for lease in leases.values() if lease is not None])
    done = tuple(step for step in graph.steps if store.of(step).done)
    finished = {step.identity for step in done}
    running = {key: job for key, job in leases.items() if job in alive and key not in finished and job is not None}
    for job in running.values():
        if job.executor == "local":
            raise UserError(f"process {job.id} on {job.host} is making a step of this campaign; let it end, or stop it")
    wanted = [step for step in graph.steps if step.identity not in finished and step.identity not in running]
    return SubmissionPlan(plan_arrays(wanted, cluster.max_array_size), done, running)


def scripts(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[str]:
    """The sbatch script of every array, with ``{NAME}`` for the job ids that are not known before submission."""
    names = [f"{{{array.name}}}" for array in plan.arrays]
    return [render(store.jobs, cluster, _request(array, names, plan, cluster)) for array in plan.arrays]


def submit_all(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[list[JobRef]]:
    """Submit the arrays in order; the lease of every step names its array element.

    Raises:
        UserError: sbatch refuses an array; what was submitted before stays submitted, and a second run goes on.
    """
    store.register(tuple(step for array in plan.arrays for step in array.steps))
    submitted: list[list[JobRef]] = []
    for array in plan.arrays:
        ids = [jobs[0].id.partition("_")[0] for jobs in submitted]
        calls = [(str(store.root), step.id) for step in array.steps]
        jobs = submit(store.jobs, cluster, _request(array, ids, plan, cluster), run_step, calls)
        for step, job in zip(array.steps, jobs, strict=True):
            store.of(step).write_lease(job)
        submitted.append(jobs)
    return submitted


def _request(array: Array, ids: Sequence[str], plan: SubmissionPlan, cluster: Cluster) -> ArrayRequest:
    step = array.shape
    waits = [_sbatch(dependency, ids) for dependency in array.dependencies]
    outside = {plan.running[p.identity].id for s in array.steps for p in s.parents if p.identity in plan.running}
    waits += [f"afterany:{job}" for job in sorted(outside)]
    return ArrayRequest(
        name=f"msm-{array.name}",
        elements=len(array.steps),
        nodes=step.nodes,
        ranks_per_node=step.ranks_per_node,
        gpus_per_node=step.ranks_per_node if step.definition.uses_gpus and cluster.gpus_per_node else 0,
        dependency=",".join(waits),
    )


def _sbatch(dependency: Dependency, ids: Sequence[str]) -> str:
    """A dependency in sbatch's syntax, such as ``afterok:64_0:64_3``."""
    job = ids[dependency.array]
    elements = [job] if dependency.elements is None else [f"{job}_{element}" for element in dependency.elements]
    return f"{dependency.rule}:{':'.join(elements)}"
