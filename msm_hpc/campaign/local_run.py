"""Run a campaign on this machine: every step a job, in topological order, as many at once as there are slots."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import submitit

from msm_hpc.campaign.graph import Graph
from msm_hpc.campaign.runner import run_step
from msm_hpc.campaign.steps import Step
from msm_hpc.campaign.store import Store
from msm_hpc.launch.jobs import living
from msm_hpc.launch.local import start_local

SECONDS_BETWEEN_LOOKS = 0.2


@dataclass
class Board:
    """What the display shows: every step is in exactly one of these, by identity.

    ``foreign`` steps are being made by a job of another run; their end is waited for.
    """

    steps: dict[str, Step]
    pending: dict[str, Step] = field(default_factory=dict)
    running: dict[str, submitit.Job[None]] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        """Whether every step has ended."""
        return not (self.pending or self.running or self.foreign)


def jobs_folder(store: Store) -> Path:
    """Where submitit keeps its pickles and the logs of jobs."""
    return store.root / "jobs"


def run_local(graph: Graph, store: Store, slots: int, show: Callable[[Board], None]) -> Board:
    """Run what is not done, calling ``show`` after each look; returns where every step ended.

    A failed step blocks only what needs it. The jobs outlive a kill of this process: the next run finds their leases
    and waits for them.
    """
    board = Board(steps={step.identity: step for step in graph.steps})
    for identity, step in board.steps.items():
        if store.of(step).done:
            board.done.add(identity)
        else:
            board.pending[identity] = step
    store.register(tuple(board.pending.values()))
    while not board.finished:
        _reap(board, store)
        _adopt(board, store)
        _block(board)
        _start(board, store, slots)
        show(board)
        if not board.finished:
            time.sleep(SECONDS_BETWEEN_LOOKS)
    return board


def _reap(board: Board, store: Store) -> None:
    """Move steps whose job has ended."""
    for identity, job in list(board.running.items()):
        if job.done():
            del board.running[identity]
            _settle(board, store, identity)
    for identity in list(board.foreign):
        lease = store.of(board.steps[identity]).lease()
        if lease is None or not living([lease]):
            board.foreign.remove(identity)
            _settle(board, store, identity)


def _settle(board: Board, store: Store, identity: str) -> None:
    folder = store.of(board.steps[identity])
    lease = folder.lease()
    if folder.done:
        board.done.add(identity)
    elif lease is not None and living([lease]):
        board.foreign.add(identity)
    else:
        board.failed.add(identity)


def _adopt(board: Board, store: Store) -> None:
    """Take note of pending steps that another run's job makes."""
    for identity, step in list(board.pending.items()):
        lease = store.of(step).lease()
        if lease is not None and living([lease]):
            del board.pending[identity]
            board.foreign.add(identity)


def _block(board: Board) -> None:
    """Give up on steps whose input can no longer come."""
    for identity, step in list(board.pending.items()):
        if any(parent.identity in board.failed | board.blocked for parent in step.parents):
            del board.pending[identity]
            board.blocked.add(identity)


def _start(board: Board, store: Store, slots: int) -> None:
    """Start every pending step whose inputs are done, while slots are free."""
    free = slots - sum(board.steps[identity].ranks for identity in board.running)
    for identity, step in list(board.pending.items()):
        if step.ranks <= free and all(parent.identity in board.done for parent in step.parents):
            del board.pending[identity]
            board.running[identity] = start_local(jobs_folder(store), step.ranks, run_step, str(store.root), step.id)
            free -= step.ranks
