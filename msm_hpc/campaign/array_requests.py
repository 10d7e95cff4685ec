"""What is submitted of a campaign, and what Slurm is asked for an array of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.campaign.node_gate import check_nodes
from msm_hpc.campaign.runner import run_steps
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.arrays import Array, Dependency
from msm_hpc.graph.bundles import Bundle
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.request import BESIDE, ArrayRequest
from msm_hpc.store.bad_nodes import bad_nodes
from msm_hpc.store.journal import Submission
from msm_hpc.store.snapshots import Snapshot
from msm_hpc.store.store import Store

MARGIN = 1.5
"""The time asked for what resumes, by its forecast: a formula may be off by as much, and a resumed run loses little."""
MINUTES_TO_START = 15
"""Added for each of these, for what a forecast leaves out: loading modules and weights, the first step, saving."""


@dataclass(frozen=True)
class Rest:
    """What is left where Slurm takes no more: the ``job`` that submits it when one of those ``ahead`` has ended.

    ``stopped`` is the job, if any, that had begun and was stopped to make room for that one; its steps are among these.
    """

    job: str
    ahead: Sequence[str]
    steps: int
    stopped: str = ""


@dataclass(frozen=True)
class SubmissionPlan:
    """What a run would submit, and what it leaves alone.

    Attributes:
        done: how many steps are done, or not needed by an unfinished one.
        running: the queued or running job of a step, of this campaign or another, by the step's identity.
        outdated: the same of steps that are submitted again, because what they read is submitted now: their job waits
            for the wrong one.
        unseen: those of ``running`` that are not shown to us, so that they may have ended.
        waiting: the steps that read what a job of another cluster makes, which no job here can wait for.
        known: the submissions that may still have a job in the queue.
        forecasts: minutes of trainings and of sampling, by the step's identity, as far as they are known.
        own: the job of this process, if it is one that submits the rest of the campaign (:mod:`msm_hpc.campaign.rest`).
        followers: other such jobs.
        rest: once it is submitted, what Slurm had no room for.
    """

    campaign: str
    arrays: tuple[Array, ...]
    done: int
    running: Mapping[str, JobRef]
    outdated: Mapping[str, JobRef]
    unseen: Mapping[str, JobRef]
    waiting: tuple[Step, ...]
    known: tuple[Submission, ...]
    forecasts: Mapping[str, float]
    own: JobRef | None = None
    followers: tuple[JobRef, ...] = ()
    rest: Rest | None = None


def request_of(
    array: Array,
    ids: Sequence[str],
    plan: SubmissionPlan,
    store: Store,
    cluster: Cluster,
    code: Snapshot | None,
    token: str = "",
) -> ArrayRequest:
    """An array of the plan; ``ids`` are those of the arrays before it."""
    step, (first, *_) = array.shape, array.bundles
    waits = [_sbatch(dependency, ids) for dependency in array.dependencies]
    read = {plan.running[p.identity].id for s in array.steps for p in s.parents if p.identity in plan.running}
    before = {plan.outdated[s.identity].id for s in array.steps if s.identity in plan.outdated}
    waits += [f"afterany:{job}" for job in sorted(read | before)]
    return ArrayRequest(
        name=f"msm-{plan.campaign}-{array.name}",
        work=first.work,
        also=tuple(dict.fromkeys(each.work for each in array.steps if each.work != first.work)),
        function=run_steps,
        given=(str(store.root),),
        each=tuple(map(_items, array.bundles)),
        lanes=max(len(bundle.lanes) for bundle in array.bundles),
        nodes=step.nodes,
        ranks_per_node=step.ranks_per_node,
        dependency=",".join(waits),
        token=token,
        code=code.folder if code else None,
        minutes=_minutes(array, plan, cluster),
        avoid=tuple(node.name for node in bad_nodes(store.root)),
        gate=check_nodes if cluster.health_check and first.work.of == "gpu_train" else None,
    )


def _minutes(array: Array, plan: SubmissionPlan, cluster: Cluster) -> int | None:
    """The time to ask for where that of all that resumes is forecast, else None; other steps get that of their class.

    What resumes are trainings and steps that sample replies.
    """
    resuming = [step for step in array.steps if _resumes(step)]
    if not resuming or any(step.identity not in plan.forecasts for step in resuming):
        return None

    def asked(step: Step) -> float:
        if _resumes(step):
            return MARGIN * plan.forecasts[step.identity] + MINUTES_TO_START
        return cluster.resources.of(step.work).time_minutes

    return math.ceil(max(sum(map(asked, lane)) for bundle in array.bundles for lane in bundle.lanes))


def _resumes(step: Step) -> bool:
    return step.kind == "train" or (step.kind == "sample" and not step.shares)


def _items(bundle: Bundle) -> tuple[str, ...]:
    """The ids of its steps, lane by lane."""
    first, *others = (tuple(step.id for step in lane) for lane in bundle.lanes)
    return (*first, *(item for lane in others for item in (BESIDE, *lane)))


def _sbatch(dependency: Dependency, ids: Sequence[str]) -> str:
    """A dependency in sbatch's syntax, such as ``afterok:64_0:64_3``."""
    job = ids[dependency.array]
    elements = [job] if dependency.elements is None else [f"{job}_{element}" for element in dependency.elements]
    return f"{dependency.rule}:{':'.join(elements)}"
