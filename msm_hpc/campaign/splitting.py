"""Shares that are left when others of their step are done: a run splits them over the workers that have become free.

A corpus is written in four shares; three are done, and the fourth was lost half-way. It is split into four, each of
which takes over what was saved for it, and gathered to what it would have become. As many workers are busy as were
asked for (``tokenize.tasks``, ``generate.tasks``, ``shares`` of an eval), and no more. A share that a job has, queued
or running, is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from msm_hpc.base.text import few
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.graph.build import Graph
from msm_hpc.graph.shares import undivided
from msm_hpc.graph.steps import Step
from msm_hpc.store.splits import read_splits, write_splits
from msm_hpc.store.store import Store

SECONDS_OF_A_PART = 300
"""A share is split only into parts that take this long, going by its tries: less is not worth a job of its own."""


def over_free_workers(session: Session) -> Session:
    """The session, with its shares split as they are now and, where workers are free, further.

    Whoever calls this holds the lock of the root, since others may have split shares since the session began.
    """
    root = session.store.root
    splits = read_splits(root)
    now = session if splits == session.external.splits else session.split_as(splits)
    further = further_splits(now.graph, now.store)
    if not further:
        return now
    splits = {**splits, **{share.id: parts for share, parts in further.items()}}
    write_splits(root, splits)
    split = few([f"{share.name} ({parts} parts)" for share, parts in further.items()])
    now.say(f"Split over the workers that are free: {split}")
    return now.split_as(splits)


def further_splits(graph: Graph, store: Store) -> dict[Step, int]:
    """The shares to split, and into how many."""
    inner = {share.identity for step in graph.steps for share in step.shares}
    wholes = [step for step in graph.needed(store.done) if step.shares and step.identity not in inner]
    left = {whole: [share for share in undivided(whole) if not store.done(share)] for whole in wholes}
    some = {whole: shares for whole, shares in left.items() if len(shares) < len(whole.shares)}
    jobs = holders([share for shares in some.values() for share in shares], store)
    found: dict[Step, int] = {}
    for whole, shares in some.items():
        idle = [share for share in shares if not jobs.alive(share)]
        workers = len(whole.shares) - (len(shares) - len(idle))
        worth = int(_longest(idle, store) or _longest(undivided(whole), store)) // SECONDS_OF_A_PART
        parts = min(workers // max(len(idle), 1), worth)
        found |= dict.fromkeys(idle, parts) if parts > 1 else {}
    return found


def _longest(steps: Iterable[Step], store: Store) -> float:
    """The seconds of the longest of the tries at any of ``steps``."""
    return max((try_.lived for step in steps for try_ in store.of(step).attempt_folders()), default=0.0)
