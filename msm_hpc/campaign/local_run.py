"""Run a campaign from here: every step a job, in topological order, as many at once as there are slots."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from msm_hpc.base.watched import Watched
from msm_hpc.campaign.runner import run_step
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step, topological
from msm_hpc.launch.forked import preload
from msm_hpc.launch.job import JobRef, is_elsewhere
from msm_hpc.launch.launcher import Launcher, launcher_of
from msm_hpc.launch.request import ArrayRequest
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import leases, states_of
from msm_hpc.store.store import Store

ASKING = ("sample", "score", "patterns")
"""Kinds of step that ask models and judges, and import what others do not."""
PRELOADED_EVALS = "msm_hpc.launch.preloaded_evals"
SECONDS_BETWEEN_CHECKS = 0.2
SECONDS_BETWEEN_LEASE_CHECKS = 3.0
SECONDS_UNTIL_VOID = 30.0
"""How long a process of another host may leave its lease untouched. Were it alive all the same, it loses the step."""


@dataclass
class RunState:
    """What the display shows: every step is in exactly one of these, by identity.

    ``done`` steps are done, or nothing unfinished needs them; ``foreign`` ones are running in a job of another run,
    whose end is waited for. ``made`` are those of the done that this run has made. The results of those in ``healed``
    were found damaged by a step that read them, and are made again. Those ``started_again`` could not read an input
    that was there again when they ended.
    """

    steps: dict[str, Step]
    pending: dict[str, Step] = field(default_factory=dict)
    running: dict[str, JobRef] = field(default_factory=dict)
    foreign: dict[str, JobRef] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    healed: set[str] = field(default_factory=set)
    started_again: set[str] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        """Whether every step has ended."""
        return not (self.pending or self.running or self.foreign)


def run_local(graph: Graph, store: Store, cluster: Cluster, show: Callable[[RunState], None]) -> RunState:
    """Run what is needed and not done, calling ``show`` after each check; returns where every step ended.

    A failed step blocks only what needs it. Ctrl-C or SIGTERM ends the jobs too; they outlive a kill of this process by
    seconds, in which they save what they have, and a run that comes in that time finds their leases and waits for them.
    """
    launcher = launcher_of(cluster)
    preload([PRELOADED_EVALS] if any(step.kind in ASKING for step in graph.steps) else [])
    state = RunState(steps={step.identity: step for step in graph.steps})
    state.pending = {step.identity: step for step in graph.needed(store.done)}
    state.done = state.steps.keys() - state.pending.keys()
    try:
        _until_finished(state, store, launcher, cluster.slots, show)
    except KeyboardInterrupt:  # a signal to this process alone, which waits for its jobs when it ends
        launcher.cancel(state.running.values())
        raise
    return state


def _until_finished(
    state: RunState, store: Store, launcher: Launcher, slots: int, show: Callable[[RunState], None]
) -> None:
    watched, checked_leases = Watched(), -SECONDS_BETWEEN_LEASE_CHECKS
    while not state.finished:
        _reap(state, store, launcher)
        if time.monotonic() - checked_leases >= SECONDS_BETWEEN_LEASE_CHECKS:
            _follow_foreign(state, store, watched)
            checked_leases = time.monotonic()
        _block(state)
        show(state)  # before jobs start: on a busy machine the first takes a while
        if _start(state, store, launcher, slots):
            show(state)
        if not state.finished:
            time.sleep(SECONDS_BETWEEN_CHECKS)


def _reap(state: RunState, store: Store, launcher: Launcher) -> None:
    """Move the steps whose job has ended."""
    alive = launcher.states(state.running.values())
    for identity, job in list(state.running.items()):
        if job in alive:
            continue
        del state.running[identity]
        folder = store.of(state.steps[identity])
        lease = folder.lease()
        if folder.done:
            state.done.add(identity)
            state.made.add(identity)
        elif lease is not None and states_of([lease], Journal(store.root)):  # another run's job was faster to take it
            state.foreign[identity] = lease
        elif not _heal(state, store, identity):
            state.failed.add(identity)
            _keep_who_died(folder, job)


def _keep_who_died(folder: StepFolder, job: JobRef) -> None:
    """Leave the lease to a job that died before it could record an attempt: its log is found by it."""
    attempts = folder.attempts()
    if not attempts or attempts[-1].job.started < job.started:
        with contextlib.suppress(OSError):  # on a full disk
            folder.write_lease(job)


def _heal(state: RunState, store: Store, identity: str) -> bool:
    """Where the step ended because a result that it reads was damaged or deleted, let both be made again, once.

    Where another reader had that result made again meanwhile, the step alone is.
    """
    step = state.steps[identity]
    coming = {*state.pending, *state.running, *state.foreign}
    lost = {parent.identity for parent in step.parents if not store.done(parent)}
    if not lost:
        return _start_again(state, store, step)
    if lost & (state.healed | state.failed | state.blocked) - coming:
        return False
    again = {each.identity: each for each in topological((step,), stop=store.done)}
    state.pending |= {key: each for key, each in again.items() if key not in coming}
    state.done -= again.keys()
    state.healed |= lost
    return True


def _start_again(state: RunState, store: Store, step: Step) -> bool:
    """Let a step that could not read an input be started again, once; whether it is one."""
    newest = store.of(step).newest()
    if newest is None or newest.read().cause != "upstream" or step.identity in state.started_again:
        return False
    state.pending[step.identity] = step
    state.started_again.add(step.identity)
    return True


def _follow_foreign(state: RunState, store: Store, watched: Watched) -> None:
    """Take note of pending steps that run in a job of another run, and of those whose job has ended."""
    waiting = {**state.pending, **{identity: state.steps[identity] for identity in state.foreign}}
    found = leases(list(waiting.values()), store)
    alive = states_of(found.values(), Journal(store.root))
    for identity in waiting:
        lease = found.get(identity)
        if lease is not None and _is_silent(lease, store.of(waiting[identity]), watched):
            store.of(waiting[identity]).drop_lease()
            state.pending |= {identity: waiting[identity]} if state.foreign.pop(identity, None) else {}
        elif lease is not None and lease in alive:
            state.pending.pop(identity, None)
            state.foreign[identity] = lease
        elif state.foreign.pop(identity, None):
            if store.of(state.steps[identity]).done:
                state.done.add(identity)
            elif not _heal(state, store, identity):
                state.failed.add(identity)


def _is_silent(lease: JobRef, folder: StepFolder, watched: Watched) -> bool:
    """Whether a process of another host, which cannot be asked about, shows no sign of life."""
    if lease.launcher != "local" or not is_elsewhere(lease):
        return False
    try:
        return watched.seconds(folder.lease_file) > SECONDS_UNTIL_VOID
    except FileNotFoundError:
        return False


def _block(state: RunState) -> None:
    """Give up on steps whose input can no longer come."""
    for identity, step in list(state.pending.items()):
        if any(parent.identity in state.failed | state.blocked for parent in step.parents):
            del state.pending[identity]
            state.blocked.add(identity)


def _start(state: RunState, store: Store, launcher: Launcher, slots: int) -> bool:
    """Start every pending step whose inputs are done, while slots are free; whether there was one."""
    before = len(state.pending)
    free = slots - sum(state.steps[identity].ranks for identity in state.running)
    for identity, step in list(state.pending.items()):
        if step.ranks <= free and all(parent.identity in state.done for parent in step.parents):
            del state.pending[identity]
            store.register((step,))
            (state.running[identity],) = launcher.submit(store.jobs, _request(step, store))
            free -= step.ranks
    return len(state.pending) < before


def _request(step: Step, store: Store) -> ArrayRequest:
    return ArrayRequest(
        name=step.kind,
        work=step.work,
        function=run_step,
        given=(str(store.root),),
        each=((step.id,),),
        ranks_per_node=step.ranks,
    )
