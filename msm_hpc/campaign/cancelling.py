"""Which queued and running jobs of a campaign to stop, and which to leave.

Left are jobs of other users, and those that another campaign wants, unless they are asked for: that one submitted them,
or needs what they make and has jobs of its own in the queue. A campaign that has none waits for nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from msm_hpc.campaign.slurm_run import answered
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.build import Graph
from msm_hpc.launch.job import JobRef, user_name
from msm_hpc.launch.job_state import JobState
from msm_hpc.launch.launcher import cancel
from msm_hpc.launch.slurm import SlurmLauncher
from msm_hpc.store.campaigns import campaigns, read_campaign
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import states_of
from msm_hpc.store.store import Store


@dataclass(frozen=True)
class Held:
    """A job that lives: how it stands, the ids of its steps, and the campaign that submitted it, if that is known."""

    job: JobRef
    state: JobState
    steps: tuple[str, ...]
    campaign: str

    @property
    def array(self) -> tuple[str, str]:
        """What it is an element of: the launcher, and the id of the array."""
        return self.job.launcher, self.job.id.partition("_")[0]


@dataclass(frozen=True)
class Cancellation:
    """The jobs to stop, and by the reason those that are left."""

    jobs: tuple[Held, ...]
    left: Mapping[str, Sequence[Held]]

    def carry_out(self) -> None:
        """Stop the jobs, with one scancel; it takes an array as a whole of which nothing is left."""
        stay = {each.array for several in self.left.values() for each in several}
        cancel({each.job if each.array in stay else replace(each.job, id=each.array[1]) for each in self.jobs})


def cancellation(campaign: str, graph: Graph, store: Store, shared: bool) -> Cancellation:
    """What to stop of ``campaign``; with ``shared`` also what another one wants.

    Raises:
        UserError: Slurm cannot be asked, or what another campaign needs cannot be read.
    """
    needed = {step.id for step in graph.needed(store.done)}
    living = _living(needed, store)
    mine = [each for each in living if each.campaign == campaign or not needed.isdisjoint(each.steps)]
    others = {each.campaign for each in living} - {campaign, ""}
    wanted = {} if shared or not mine else {name: _needed(store, name) for name in sorted(others)}
    jobs, left = [], defaultdict[str, list[Held]](list)
    for each in mine:
        if why := _foreign(each) or _wanted(each, campaign, wanted):
            left[why].append(each)
        else:
            jobs.append(each)
    return Cancellation(tuple(jobs), left)


def _living(needed: Iterable[str], store: Store) -> list[Held]:
    """The jobs of the ``needed`` steps, and of all that was submitted below the root, that live."""
    journal = Journal(store.root)
    steps: dict[JobRef, list[str]] = defaultdict(list)
    owners: dict[JobRef, str] = {}
    for submission in answered(journal.read(), SlurmLauncher(Cluster(launcher="slurm"))):
        for step_id, job in submission.jobs.items():
            steps[job].append(step_id)
            owners[job] = submission.campaign
    submitted = {(job.launcher, job.id, job.cluster) for job in steps}
    for step_id in needed:
        lease = store.folder(step_id).lease()
        if lease is not None and (lease.launcher, lease.id, lease.cluster) not in submitted:
            steps[lease].append(step_id)
    states = states_of(steps, journal)
    return [Held(job, state, tuple(steps[job]), owners.get(job, "")) for job, state in states.items()]


def _needed(store: Store, campaign: str) -> frozenset[str]:
    """What a campaign still waits for; of one whose record was deleted nothing is known."""
    if campaign not in campaigns(store.root):
        return frozenset()
    return frozenset(step for step in read_campaign(store.root, campaign).steps if not store.folder(step).done)


def _foreign(held: Held) -> str | None:
    """Why a job cannot be stopped from here, if so."""
    if held.job.user not in ("", user_name()):
        return f"{held.job.user} must cancel them: `msm cancel` as that user"
    return held.state.reason if held.state.word == "unknown" else None


def _wanted(held: Held, campaign: str, wanted: Mapping[str, frozenset[str]]) -> str | None:
    """Which other campaign wants a job, if any does."""
    for name, needed in wanted.items():
        if held.campaign == name:
            return f"campaign {name} submitted them; --shared cancels them, too"
        if not needed.isdisjoint(held.steps):
            return f"campaign {name} waits for them; --shared cancels them, too"
    return None
