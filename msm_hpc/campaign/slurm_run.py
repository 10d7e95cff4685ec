"""Submit a campaign to Slurm as job arrays with dependencies, and return: nothing of ours stays running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from msm_hpc.campaign.arrays import Array, Dependency, plan_arrays
from msm_hpc.campaign.graph import Graph
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.steps import Step
from msm_hpc.campaign.store import Store
from msm_hpc.config import Cluster
from msm_hpc.launch.jobs import JobRef, living
from msm_hpc.launch.slurm import ArrayRequest, render, submit


@dataclass(frozen=True)
class Todo:
    """What a run would submit, and what it leaves alone.

    ``running`` maps the identity of a step to the living job, of this campaign or another, that makes it.
    """

    arrays: tuple[Array, ...]
    done: tuple[Step, ...]
    running: dict[str, JobRef]


def plan(graph: Graph, store: Store, cluster: Cluster) -> Todo:
    """Arrays for the steps that are neither done nor being made."""
    leases = {step.identity: store.of(step).lease() for step in graph.steps}
    alive = living([lease for lease in leases.values() if lease is not None])
    done = tuple(step for step in graph.steps if store.of(step).done)
    finished = {step.identity for step in done}
    running = {key: job for key, job in leases.items() if job in alive and key not in finished and job is not None}
    wanted = [step for step in graph.steps if step.identity not in finished and step.identity not in running]
    return Todo(plan_arrays(wanted, cluster.max_array_size), done, running)


def scripts(todo: Todo, store: Store, cluster: Cluster) -> list[str]:
    """The sbatch script of every array, with ``{NAME}`` for the job ids that are not known before submission."""
    names = [f"{{{array.name}}}" for array in todo.arrays]
    return [render(store.root / "jobs", cluster, _request(array, names, todo)) for array in todo.arrays]


def submit_all(todo: Todo, store: Store, cluster: Cluster) -> list[list[JobRef]]:
    """Submit the arrays in order; the lease of every step names its array element.

    Raises:
        UserError: sbatch refuses an array; what was submitted before stays submitted, and a second run goes on.
    """
    store.register(tuple(step for array in todo.arrays for step in array.steps))
    submitted: list[list[JobRef]] = []
    for array in todo.arrays:
        ids = [jobs[0].id.partition("_")[0] for jobs in submitted]
        calls = [(str(store.root.resolve()), step.id) for step in array.steps]
        jobs = submit(store.root.resolve() / "jobs", cluster, _request(array, ids, todo), run_step, calls)
        for step, job in zip(array.steps, jobs, strict=True):
            store.of(step).write_lease(job)
        submitted.append(jobs)
    return submitted


def _request(array: Array, ids: Sequence[str], todo: Todo) -> ArrayRequest:
    step = array.shape
    waits = [_sbatch(dependency, ids) for dependency in array.dependencies]
    outside = {todo.running[p.identity].id for s in array.steps for p in s.parents if p.identity in todo.running}
    rule = "afterany" if step.spec.missing_inputs_allowed else "afterok"
    waits += [f"{rule}:{job}" for job in sorted(outside)]
    return ArrayRequest(f"msm-{array.name}", len(array.steps), step.nodes, step.ranks // step.nodes, ",".join(waits))


def _sbatch(dependency: Dependency, ids: Sequence[str]) -> str:
    """A dependency in sbatch's syntax, such as ``afterok:64_0:64_3``."""
    job = ids[dependency.array]
    elements = [job] if dependency.elements is None else [f"{job}_{element}" for element in dependency.elements]
    return f"{dependency.rule}:{':'.join(elements)}"
