"""Submit a campaign as job arrays with dependencies, and return: no process of ours keeps running.

A run looks, decides and submits under the lock of the root, so that two runs never submit a step twice. Ahead of each
sbatch it writes its intent into the journal: a run that is killed anywhere leaves nothing that the next cannot find.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.array_requests import SubmissionPlan, request_of
from msm_hpc.campaign.releasing import release_ready
from msm_hpc.campaign.rest import leave_rest, own_rest, those_to_come
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.arrays import Array, plan_arrays, side_by_side
from msm_hpc.graph.build import Graph
from msm_hpc.graph.bundles import plan_bundles
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import launcher_of, launcher_of_job, living, slurm_launcher_of
from msm_hpc.launch.refusals import AT_A_LIMIT, QueueFullError
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.launch.slurm_commands import is_silent
from msm_hpc.planner.capacity import trainings_at_once
from msm_hpc.store.journal import Journal, Submission, new_token
from msm_hpc.store.leases import has_ended, jobs_of, states_of
from msm_hpc.store.lock import submission_lock
from msm_hpc.store.snapshots import Snapshot, keep_code, snapshot_of
from msm_hpc.store.store import Store

SECONDS_UNTIL_ANSWERED = 5.0
"""How long Slurm may take to show a job whose sbatch was killed when it had just been asked for."""


NO_FORECASTS: Mapping[str, float] = MappingProxyType({})


def plan_submission(
    campaign: str, graph: Graph, store: Store, cluster: Cluster, forecasts: Mapping[str, float] = NO_FORECASTS
) -> SubmissionPlan:
    """Arrays for the steps that are neither done nor running; ``forecasts`` are minutes of what resumes, by identity.

    Raises:
        UserError: a local run has one of the steps running, which no Slurm job can wait for; or nobody but another
            user can know whether a step is queued.
    """
    needed, launcher = graph.needed(store.done), slurm_launcher_of(cluster)
    queued = _queued(needed, store, launcher)
    running = dict(queued.running)
    needed = tuple(step for step in needed if step.identity in running or not _made_since(step, queued.jobs, store))
    hidden, others = launcher.hidden(set(running.values())), launcher.elsewhere(set(running.values()))
    unseen = {identity: job for identity, job in running.items() if job in hidden}
    elsewhere = {identity for identity, job in running.items() if job in others}
    waiting, mine = _waiting(needed, running.keys(), elsewhere), own_rest(queued.submissions)
    free = [step for step in needed if step.identity not in elsewhere | waiting.keys()]
    if mine is not None:
        free = [step for step in free if step.id in mine.steps or step.identity in running]
    wanted = _wanted(free, running, queued.pending)
    wanted = wanted if mine is None else those_to_come(wanted, running, store)
    outdated = {step.identity: running.pop(step.identity) for step in wanted if step.identity in running}
    arrays, done = _arrays(wanted, cluster, launcher, forecasts), len(graph.steps) - len(needed)
    known = queued.known
    plan = SubmissionPlan(campaign, arrays, done, running, outdated, unseen, tuple(waiting.values()), known, forecasts)
    rests = {job for each in known if each.rest and each.campaign == campaign for job in each.jobs.values()}
    own = next(iter(mine.jobs.values())) if mine else None
    return replace(plan, own=own, followers=tuple(rests - {own}))


@dataclass(frozen=True)
class _Queued:
    """What the queue has of the steps that are needed.

    Attributes:
        submissions: those that the journal names.
        alive: how the jobs stand that have not ended.
        jobs: all jobs of each step, dead or alive, by its identity.
        running: the one that is to make it, if any.
    """

    submissions: Sequence[Submission]
    alive: Mapping[JobRef, JobState]
    jobs: Mapping[str, Sequence[JobRef]]
    running: Mapping[str, JobRef]

    @property
    def pending(self) -> set[str]:
        """The ids of the jobs that have not started."""
        return {job.id for job, state in self.alive.items() if state.word == "pending"}

    @property
    def known(self) -> tuple[Submission, ...]:
        """The submissions that may still have a job in the queue."""
        return tuple(
            each
            for each in self.submissions
            if each.job is None or not self.alive.keys().isdisjoint(each.jobs.values())
        )


def _queued(needed: Sequence[Step], store: Store, launcher: SlurmLauncher) -> _Queued:
    """Ask Slurm, the journal and the leases.

    Raises:
        UserError: nobody but another user can know whether a step is queued, or a local run has one of them.
    """
    journal = Journal(store.root)
    submissions = answered(journal.read(), launcher)
    _refuse_unknown(needed, submissions, journal)
    jobs = jobs_of(needed, store, [each for each in submissions if not each.rest])
    asked = {job for each in jobs.values() for job in each} | {
        job for each in submissions for job in each.jobs.values()
    }
    alive = states_of(asked, journal)
    running = {identity: job for identity, each in jobs.items() for job in each if job in alive}
    _refuse_local(needed, running, store)
    for step in needed:
        if step.identity in running and has_ended(step, running[step.identity], store):
            del running[step.identity]
    return _Queued(submissions, alive, jobs, running)


def _arrays(
    wanted: Sequence[Step], cluster: Cluster, launcher: SlurmLauncher, forecasts: Mapping[str, float]
) -> tuple[Array, ...]:
    """The steps as bundles, on sites that give out whole nodes side by side, and these as arrays."""
    bundles = plan_bundles(
        wanted,
        lambda step: forecasts.get(step.identity),
        cluster.bundle_minutes,
        lambda step: trainings_at_once(cluster, step.config.layout),
    )
    if cluster.exclusive:
        bundles = side_by_side(
            bundles,
            lambda step: launcher.lanes(step.work, step.ranks, step.nodes),
            lambda bundle: sum(forecasts.get(step.identity, 0.0) for step in bundle.steps),
            cluster.resources,
        )
    return plan_arrays(bundles, launcher.max_array_size, cluster.resources)


def _made_since(step: Step, jobs: Mapping[str, Sequence[JobRef]], store: Store) -> bool:
    """Whether a job made the step after ``store`` was looked at, and is no more in the queue or ends there."""
    return bool(jobs[step.identity]) and Store(store.root).done(step)


def answered(submissions: Sequence[Submission], launcher: SlurmLauncher) -> list[Submission]:
    """With the ids of those that were submitted by a run that was killed before it could note them.

    A token that squeue does not show was never submitted, or its jobs have ended: what they did shows in the steps.
    """
    found = launcher.submitted({each.token for each in submissions if each.job is None})
    jobs = [replace(each, job=each.job or found.get(each.token)) for each in submissions]
    nameless = {each.token: JobRef("slurm", "", user=each.user, cluster=each.cluster) for each in jobs if not each.job}
    hidden = launcher.hidden(nameless.values())
    return [each for each in jobs if each.job or nameless[each.token] in hidden]


def _refuse_unknown(needed: Sequence[Step], submissions: Sequence[Submission], journal: Journal) -> None:
    ids = {step.id for step in needed}
    for each in submissions:
        if each.job is None and not ids.isdisjoint(each.steps):
            raise UserError(
                f"`msm run` of {each.user} was stopped while it submitted {each.name} on cluster {each.cluster}, and "
                f"whether that is queued is not shown to you: let {each.user} run it again. If that cannot be, make "
                f"sure that no such job is left, and forget it: {journal.forget([each])}"
            )


def _refuse_local(needed: Sequence[Step], running: Mapping[str, JobRef], store: Store) -> None:
    for step in needed:
        job = running.get(step.identity)
        if job is not None and not launcher_of_job(job).queues:
            raise UserError(
                f"process {job.id} of {job.user} on {job.host} is running a step of this campaign; let it end, or stop "
                f"it. If it is gone, delete {store.of(step).lease_file}"
            )


def _waiting(needed: Sequence[Step], running: Collection[str], elsewhere: Collection[str]) -> dict[str, Step]:
    """The steps that no job has and that read, directly or not, what the steps ``elsewhere`` make."""
    waiting: dict[str, Step] = {}
    for step in needed:
        late = any(parent.identity in elsewhere or parent.identity in waiting for parent in step.parents)
        if late and step.identity not in running:
            waiting[step.identity] = step
    return waiting


def _wanted(needed: Sequence[Step], running: Mapping[str, JobRef], pending: Collection[str]) -> list[Step]:
    """The steps that no job has, and those whose job waits for another than will make what they read.

    With such a step goes its job, if that has not started, and so do the job's other steps.
    """
    wanted: dict[str, Step] = {}
    before = -1
    while len(wanted) > before:
        before = len(wanted)
        withdrawn = {running[identity].id for identity in wanted if identity in running}.intersection(pending)
        for step in needed:
            job = running.get(step.identity)
            if job is None or job.id in withdrawn or any(parent.identity in wanted for parent in step.parents):
                wanted[step.identity] = step
    return [step for step in needed if step.identity in wanted]


def left_alone(plan: SubmissionPlan, store: Store, cluster: Cluster) -> Iterator[str]:
    """What to say of the jobs that are not shown here, and of the steps that wait for them."""
    launcher, journal = slurm_launcher_of(cluster), Journal(store.root)
    others = launcher.elsewhere(set(plan.unseen.values()))
    groups: dict[tuple[str, str], list[JobRef]] = defaultdict(list)
    for job in plan.unseen.values():
        groups[job.user, f" of cluster {job.cluster}" if job in others else ""].append(job)
    for (user, there), jobs in sorted(groups.items()):
        ids = ", ".join(sorted({job.id.partition("_")[0] for job in jobs}))
        yield (
            f"Left to {user}: the steps in job {ids}{there}, which Slurm does not show to you here. If it is gone, let "
            f"{user} run `msm run` again{there and ' there'}. If that cannot be, make sure that it is gone, and forget "
            f"it: {journal.forget(journal.of(jobs))}"
        )
    if plan.waiting:
        yield (
            f"Not submitted: {len(plan.waiting)} steps that read what is made on another cluster, whose jobs no job "
            "here can wait for; run again when they have ended"
        )


def refusals(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[str]:
    """What sbatch would refuse of the plan, each with the key of the profile to change."""
    nowhere = [""] * len(plan.arrays)
    requests = [request_of(array, nowhere, plan, store, cluster, None) for array in plan.arrays]
    return [*slurm_launcher_of(cluster).refusals(store.jobs, requests)]


def scripts(plan: SubmissionPlan, store: Store, cluster: Cluster) -> list[str]:
    """The sbatch script of every array, with ``{NAME}`` for the job ids that are not known before submission."""
    launcher = launcher_of(cluster)
    names = [f"{{{array.name}}}" for array in plan.arrays]
    code = snapshot_of(store.root)
    return [launcher.render(store.jobs, request_of(array, names, plan, store, cluster, code)) for array in plan.arrays]


def submit(
    plan: Callable[[], SubmissionPlan], store: Store, cluster: Cluster, say: Callable[[str], None]
) -> tuple[SubmissionPlan, list[str]]:
    """Submit what ``plan`` finds to be wanted, once no other run is submitting; returns that plan and the arrays' ids.

    What Slurm has no room for now is left to a job (:mod:`msm_hpc.campaign.rest`).

    Raises:
        UserError: sbatch would refuse a shape of array, ahead of any; or it refuses an array for other reasons: what
            was submitted before stays submitted, and the next run submits the rest.
    """
    launcher, journal = slurm_launcher_of(cluster), Journal(store.root)
    with submission_lock(store.root, say) as lock:
        _let_answers_come(journal.read())
        found = plan()
        if problems := [each for each in refusals(found, store, cluster) if AT_A_LIMIT not in each]:
            raise UserError("\n".join(problems))
        launcher.withdraw(job for job in found.followers if job.user == user_name())
        journal.rewrite(found.known)
        found = replace(found, outdated=_withdrawn(found.outdated, launcher))
        steps = tuple(step for array in found.arrays for step in array.steps)
        store.register(steps)
        _drop_local_leases(steps, store)
        code = keep_code(store.root) if steps else None
        ids: list[str] = []
        for array in found.arrays:
            lock.check()
            intent = _intent(array, found, launcher, code)
            request = request_of(array, ids, found, store, cluster, code, intent.token)
            try:
                ids.append(_submitted(intent, request, journal, launcher, store))
            except UserError as error:
                full = isinstance(error, QueueFullError)
                rest = leave_rest(found, ids, store, launcher, code) if full else None
                if rest is None:
                    raise UserError(f"{error}; {_left(found, len(ids), is_silent(str(error)))}") from error
                return replace(found, arrays=found.arrays[: len(ids)], rest=rest), ids
        release_ready([each for each in journal.read() if each.job in ids], store)
    return found, ids


def _submitted(
    intent: Submission, request: ArrayRequest, journal: Journal, launcher: SlurmLauncher, store: Store
) -> str:
    """The id of an array, submitted between the two lines that the journal has of it."""
    journal.add(intent)
    job = launcher.submit(store.jobs, request)[0].id.partition("_")[0]
    journal.answered(intent, job)
    return job


def _drop_local_leases(steps: Sequence[Step], store: Store) -> None:
    """Drop the leases of processes of this machine that are gone: asked on a node, nobody could say so."""
    for step in steps:
        lease = store.of(step).lease()
        if lease is not None and not launcher_of_job(lease).queues and not living([lease]):
            store.of(step).drop_lease()


def _let_answers_come(submissions: Sequence[Submission]) -> None:
    newest = max((each.at for each in submissions if each.job is None), default=0.0)
    time.sleep(min(max(newest + SECONDS_UNTIL_ANSWERED - time.time(), 0.0), SECONDS_UNTIL_ANSWERED))


def _withdrawn(outdated: Mapping[str, JobRef], launcher: SlurmLauncher) -> dict[str, JobRef]:
    """Take back the outdated jobs that still wait in the queue; returns those that are left, and must end first."""
    launcher.withdraw(job for job in outdated.values() if job.user == user_name())
    left = living(outdated.values())
    return {identity: job for identity, job in outdated.items() if job in left}


def _intent(array: Array, plan: SubmissionPlan, launcher: SlurmLauncher, code: Snapshot | None) -> Submission:
    return Submission(
        token=new_token(),
        name=f"msm-{plan.campaign}-{array.name}",
        elements=tuple(tuple(step.id for step in bundle.steps) for bundle in array.bundles),
        user=user_name(),
        cluster=launcher.name,
        campaign=plan.campaign,
        code=code.folder.name if code else "",
        at=time.time(),
        waits=_waits(array, plan),
    )


def _waits(array: Array, plan: SubmissionPlan) -> tuple[tuple[str, ...], ...]:
    """What each element needs only wait for, jobs of earlier submissions too; none where that is all it waits for.

    An element whose own step a job still has must wait for that job, too, whatever it reads.
    """
    if not array.waits or any(step.identity in plan.outdated for step in array.steps):
        return ()
    running = ([each.id for each in bundle.parents if each.identity in plan.running] for bundle in array.bundles)
    return tuple((*waits, *more) for waits, more in zip(array.waits, running, strict=True))


def _left(plan: SubmissionPlan, submitted: int, silent: bool) -> str:
    """What to say where an array was refused: what stays, what is left, and how that gets there."""
    left = plan.arrays[submitted:]
    steps = sum(len(array.steps) for array in left)
    stays = f"the {submitted} arrays before it stay submitted" if submitted else "nothing was submitted"
    then = "Run again when Slurm answers: it submits what is left" if silent else f"Fix the profile, or {AT_A_LIMIT}"
    return f"{stays}, {len(left)} arrays of {steps} steps are left ({', '.join(array.name for array in left)}). {then}"
