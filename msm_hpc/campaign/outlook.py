"""What is left of a campaign: GPU-hours and wall time, as far as they can be forecast.

A training takes the time of its optimizer steps by forecast (:mod:`msm_hpc.campaign.needs`), and for loading, saving
and the like what finished trainings of its stage took. A step that samples replies takes the time of its forecast, too
(:mod:`msm_hpc.campaign.asking`). Any other takes what finished steps like it did, and before there is one an evaluation
of preferences its forecast; of the rest what is not known is named.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from statistics import fmean

from msm_hpc.campaign.asking import AskingStep, seconds_of_asking
from msm_hpc.campaign.needs import Training
from msm_hpc.campaign.views.ledger import REASONS, Ledger, hour_unit
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.training import Layout
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.planner.capacity import ranks_a_node, trainings_at_once
from msm_hpc.store.store import Store

_Like = tuple[str, str]


@dataclass(frozen=True)
class Outlook:
    """What is left.

    Attributes:
        on_gpus: whether ``hours`` are GPU-hours.
        hours: of the steps that can be forecast.
        seconds: wall time of these, one stage after another, of trainings also one layout: as many at once as there may
            be; no queueing.
        steps: how many are left.
        unknown: what is not in it: stages, or ``loading`` of a stage.
        trainings_alone: whether nothing else is in it.
    """

    on_gpus: bool
    hours: float
    seconds: float
    steps: int
    unknown: tuple[str, ...]
    trainings_alone: bool

    @property
    def unit(self) -> str:
        """What is counted."""
        return hour_unit(self.on_gpus)


def outlook(
    graph: Graph,
    store: Store,
    cluster: Cluster,
    found: Iterable[Training],
    in_ranks: Ledger,
    asked: Iterable[AskingStep] = (),
) -> Outlook:
    """What is left.

    Args:
        graph: of the campaign.
        store: what is done.
        cluster: where the rest will run.
        found: the campaign's trainings.
        in_ranks: what it took so far, in rank-hours.
        asked: its steps that ask trained models.
    """
    left = graph.needed(store.done)
    past = _past(graph, {step.identity for step in left}, in_ranks)
    forecasts = {step.identity: each.seconds for each in found for step in each.steps}
    forecasts |= seconds_of_asking(asked)
    seconds_of = {step.identity: _seconds(step, forecasts, past, store) for step in left}
    known = [(step, seconds) for step in left if (seconds := seconds_of[step.identity]) is not None]
    hours = sum(seconds * width(step, cluster) for step, seconds in known) / 3600
    in_turn: dict[tuple[str, Layout | None, int], list[float]] = defaultdict(list)
    for step, seconds in known:
        layout = step.config.layout if step.kind == "train" else None
        in_turn[step.stage, layout, _at_once(step, cluster)].append(seconds)
    wall = sum(_wall(each, at_once) for (*_, at_once), each in in_turn.items())
    unknown = [step.stage for step in left if seconds_of[step.identity] is None]
    loading = [f"loading of {step.stage}" for step, _ in known if step.kind == "train" and _like(step) not in past]
    alone = all(step.kind == "train" for step, _ in known)
    return Outlook(cluster.trains_on_gpus, hours, wall, len(left), tuple(dict.fromkeys(unknown + loading)), alone)


def _seconds(
    step: Step, forecasts: Mapping[str, float | None], past: Mapping[_Like, float], store: Store
) -> float | None:
    """Wall time of a step that is left; None where it is not known."""
    whole, before = forecasts.get(step.identity), past.get(_like(step))
    if step.kind == "train":
        return None if whole is None else whole * (1 - _share_done(step, store)) + (before or 0.0)
    if step.kind == "sample":
        return 0.0 if step.shares else None if whole is None else whole * (1 - _share_done(step, store))
    return whole if before is None else before


def _like(step: Step) -> _Like:
    """What finished steps share with those that they forecast: the stage and, of what judges or measures, the eval."""
    return step.stage, getattr(step.config, "eval", "")


def _past(graph: Graph, left: Set[str], in_ranks: Ledger) -> dict[_Like, float]:
    """Seconds that steps took, by those that are finished; of trainings without what is forecast."""
    finished: dict[_Like, list[Step]] = defaultdict(list)
    for step in graph.steps:
        if step.identity not in left and step.id in in_ranks.spent:
            finished[_like(step)].append(step)
    return {like: fmean(_past_seconds(step, in_ranks) for step in steps) for like, steps in finished.items()}


def _past_seconds(step: Step, in_ranks: Ledger) -> float:
    left_out = {"lost to restart", *(["training"] if step.kind == "train" else [])}
    reasons = [reason for reason in REASONS if reason not in left_out]
    return 3600 * in_ranks.hours(reasons, [step.id]) / step.ranks


def _share_done(step: Step, store: Store) -> float:
    """How much of a step is done that resumes, if it was begun."""
    newest = store.of(step).newest()
    progress = newest.progress if newest else None
    return progress.done / progress.total if progress else 0.0


def width(step: Step, cluster: Cluster) -> int:
    """How many a step takes of what is counted: ranks or, on a site where trainings have GPUs, GPUs."""
    if not cluster.trains_on_gpus:
        return step.ranks
    return step.ranks * cluster.resources.of(step.work).gpus_per_rank if cluster.gives_gpus(step.work.of) else 0


def _at_once(step: Step, cluster: Cluster) -> int:
    """How many steps like this one run at once: as jobs may and, where they take GPUs, as ``nodes`` have room for."""
    if step.kind == "train":
        return trainings_at_once(cluster, step.config.layout)
    jobs = launcher_of(cluster).at_once(1)
    gpus = width(step, cluster) if cluster.trains_on_gpus else 0
    return max(min(jobs, cluster.nodes * ranks_a_node(cluster) // gpus), 1) if gpus else jobs


def _wall(known: Iterable[float], at_once: int) -> float:
    """Seconds until steps have ended, of which so many run at once; the longest begin first."""
    slots = [0.0] * at_once
    for seconds in sorted(known, reverse=True):
        heapq.heapreplace(slots, slots[0] + seconds)
    return max(slots)
