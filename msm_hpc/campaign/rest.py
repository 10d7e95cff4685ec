"""The rest of a campaign, where a site limits how many jobs of a user may be queued: a job of its own submits it.

That job waits until any of the arrays in the queue has ended, then calls ``msm run`` of the campaign, which submits the
steps that the job holds in the journal and no others: what has failed meanwhile is for people to see to. If there still
is no room for all, the same job goes back into the queue and waits for another array. Each time one fewer is ahead, so
that it comes to an end.

In the journal it is a submission like any other, of all steps that are left. So ``status`` shows these waiting, and
``cancel`` stops it. ``msm run`` by hand takes it back, and submits what it can itself.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

from msm_hpc.campaign.array_requests import Rest, SubmissionPlan
from msm_hpc.config.cluster import Work
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, current_job, same_job, user_name
from msm_hpc.launch.refusals import QueueFullError
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher, jobs_of_array
from msm_hpc.launch.slurm_commands import after_any
from msm_hpc.store.journal import Journal, Submission, new_token
from msm_hpc.store.snapshots import Snapshot
from msm_hpc.store.store import Store

MOST_AHEAD = 50
"""Arrays that the job waits for, any of which makes room."""
SECONDS_TO_STOP, SECONDS_BETWEEN_LOOKS = 60.0, 0.5


def run_again(root: str, campaign: str) -> NoReturn:
    """In that job: run the campaign again."""
    os.execv(sys.executable, [sys.executable, "-u", "-P", "-m", "msm_hpc", "run", campaign, f"root={root}"])


def own_rest(submissions: Iterable[Submission]) -> Submission | None:
    """What this process is to submit, if its job is one that submits the rest."""
    job = current_job()
    return next(
        (each for each in submissions if each.rest and any(same_job(it, job) for it in each.jobs.values())), None
    )


def those_to_come(steps: Sequence[Step], running: Mapping[str, JobRef], store: Store) -> list[Step]:
    """Those of ``steps``, inputs first, of which every input is there, or a job or one of them makes it."""
    coming: dict[str, Step] = {}
    for step in steps:
        there = (
            parent.identity in coming or parent.identity in running or store.done(parent) for parent in step.parents
        )
        if step.definition.missing_inputs_allowed or all(there):
            coming[step.identity] = step
    return [*coming.values()]


def leave_rest(
    plan: SubmissionPlan, ids: list[str], store: Store, launcher: SlurmLauncher, code: Snapshot | None
) -> Rest | None:
    """Have a job submit the plan's arrays but the first, which have ``ids``; None where nothing is ahead of it.

    If there is no room for that job either, it takes the place of the last element of those arrays, if one of them is
    left then: of one that waits, or else of one that has just begun. ``ids`` lose an array that is gone by that.
    """
    left = [step.id for array in plan.arrays[len(ids) :] for step in array.steps]
    if not (ahead := _ahead(plan, ids)):
        return None
    if plan.own is not None:
        again = launcher.run_again_after(plan.own, ahead)
        return Rest(plan.own.id, ahead, len(left)) if again else None
    try:
        return _submit(plan, left, ahead, store, launcher, code)
    except QueueFullError:
        taken = _take_back(plan, ids, launcher)
    if taken is None:
        return None
    try:
        rest = _submit(plan, [*taken.steps, *left], _ahead(plan, ids), store, launcher, code)
    except QueueFullError:  # others were faster
        return None
    return replace(rest, stopped=taken.job.id if taken.had_begun else "")


@dataclass(frozen=True)
class _Taken:
    """A job that gave way, and its steps."""

    job: JobRef
    steps: Sequence[str]
    had_begun: bool


def _take_back(plan: SubmissionPlan, ids: list[str], launcher: SlurmLauncher) -> _Taken | None:
    """Withdraw the last element that waits of the newest array, or stop its last one; None where that helps nobody."""
    if not ids:
        return None
    bundles = plan.arrays[len(ids) - 1].bundles
    if len(bundles) == 1 and not _ahead(plan, ids[:-1]):
        return None
    jobs = jobs_of_array(ids[-1], len(bundles), time.time(), launcher.name)
    elements = [*zip(reversed(jobs), reversed(bundles), strict=True)]
    pending = next((element for element in elements if launcher.withdraw([element[0]])), None)
    job, bundle = pending or elements[0]
    if pending is None:
        _stop(job, launcher)
    if len(bundles) == 1:
        ids.pop()
    return _Taken(job, [step.id for step in bundle.steps], had_begun=pending is None)


def _stop(job: JobRef, launcher: SlurmLauncher) -> None:
    """Cancel a job, and wait until it makes room: it ends itself, or is killed by Slurm after half a minute."""
    launcher.cancel([job])
    deadline = time.monotonic() + SECONDS_TO_STOP
    while launcher.states([job]) and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _ahead(plan: SubmissionPlan, ids: Sequence[str]) -> list[str]:
    """The arrays of this user in the queue, oldest first."""
    mine = [each.job for each in plan.known if each.job and not each.rest and each.user == user_name()]
    return [*mine, *ids][:MOST_AHEAD]


def _submit(
    plan: SubmissionPlan,
    steps: Sequence[str],
    ahead: Sequence[str],
    store: Store,
    launcher: SlurmLauncher,
    code: Snapshot | None,
) -> Rest:
    journal, name = Journal(store.root), f"msm-{plan.campaign}-rest"
    intent = Submission(
        token=new_token(),
        name=name,
        elements=(tuple(steps),),
        user=user_name(),
        cluster=launcher.name,
        campaign=plan.campaign,
        code=code.folder.name if code else "",
        at=time.time(),
        rest=True,
    )
    journal.add(intent)
    request = ArrayRequest(
        name=name,
        work=Work("cpu"),
        function=run_again,
        given=(str(store.root),),
        each=((plan.campaign,),),
        dependency=after_any(ahead),
        token=intent.token,
        code=code.folder if code else None,
    )
    (job,) = launcher.submit(store.jobs, request)
    journal.answered(intent, job.id)
    return Rest(job.id, ahead, len(steps))
