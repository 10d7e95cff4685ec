"""What is left of a campaign: GPU-hours and wall time, as far as they can be forecast.

A training takes the time of its optimizer steps by forecast (:mod:`msm_hpc.campaign.needs`), and for loading, saving
and the like what finished trainings of its stage took; any other step takes what finished steps of its stage did. What
is not known before one of a stage has run is named.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from statistics import fmean

from msm_hpc.campaign.needs import Training
from msm_hpc.campaign.views.ledger import REASONS, Ledger, hour_unit
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.training import Layout
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.launcher import launcher_of
from msm_hpc.planner.capacity import trainings_at_once
from msm_hpc.store.store import Store


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


def outlook(graph: Graph, store: Store, cluster: Cluster, found: Iterable[Training], in_ranks: Ledger) -> Outlook:
    """What is left; ``found`` are the campaign's trainings, and ``in_ranks`` what it took so far, in rank-hours."""
    left = graph.needed(store.done)
    past = _past(graph, {step.identity for step in left}, in_ranks)
    forecasts = {step.identity: each.seconds for each in found for step in each.steps}
    seconds_of = {step.identity: _seconds(step, forecasts, past, store) for step in left}
    known = [(step, seconds) for step in left if (seconds := seconds_of[step.identity]) is not None]
    hours = sum(seconds * step.ranks for step, seconds in known if _counts(step, cluster)) / 3600
    in_turn: dict[tuple[str, Layout | None], list[float]] = defaultdict(list)
    for step, seconds in known:
        in_turn[step.stage, step.config.layout if step.kind == "train" else None].append(seconds)
    wall = sum(_wall(each, layout, cluster) for (_, layout), each in in_turn.items())
    unknown = [step.stage for step in left if seconds_of[step.identity] is None]
    loading = [f"loading of {step.stage}" for step, _ in known if step.kind == "train" and step.stage not in past]
    alone = all(step.kind == "train" for step, _ in known)
    return Outlook(cluster.trains_on_gpus, hours, wall, len(left), tuple(dict.fromkeys(unknown + loading)), alone)


def _seconds(
    step: Step, forecasts: Mapping[str, float | None], past: Mapping[str, float], store: Store
) -> float | None:
    """Wall time of a step that is left; None where it is not known."""
    if step.kind != "train":
        return past.get(step.stage)
    whole = forecasts.get(step.identity)
    return None if whole is None else whole * (1 - _share_done(step, store)) + past.get(step.stage, 0.0)


def _past(graph: Graph, left: Set[str], in_ranks: Ledger) -> dict[str, float]:
    """Seconds that a step of each stage took, by those that are finished; of trainings without what is forecast."""
    finished: dict[str, list[Step]] = defaultdict(list)
    for step in graph.steps:
        if step.identity not in left and step.id in in_ranks.spent:
            finished[step.stage].append(step)
    return {stage: fmean(_past_seconds(step, in_ranks) for step in steps) for stage, steps in finished.items()}


def _past_seconds(step: Step, in_ranks: Ledger) -> float:
    left_out = {"lost to restart", *(["training"] if step.kind == "train" else [])}
    reasons = [reason for reason in REASONS if reason not in left_out]
    return 3600 * in_ranks.hours(reasons, [step.id]) / step.ranks


def _share_done(step: Step, store: Store) -> float:
    """How much of a training's steps is done, if it was begun."""
    newest = store.of(step).newest()
    progress = newest.progress if newest else None
    return progress.done / progress.total if progress else 0.0


def _counts(step: Step, cluster: Cluster) -> bool:
    """Whether the step takes any of what is counted: on a site where trainings have GPUs, GPUs."""
    return not cluster.trains_on_gpus or cluster.gives_gpus(step.work.of)


def _wall(known: Iterable[float], layout: Layout | None, cluster: Cluster) -> float:
    """Seconds until steps have ended, of which as many run at once as the cluster allows; the longest begin first."""
    slots = [0.0] * (trainings_at_once(cluster, layout) if layout else launcher_of(cluster).at_once(1))
    for seconds in sorted(known, reverse=True):
        heapq.heapreplace(slots, slots[0] + seconds)
    return max(slots)
