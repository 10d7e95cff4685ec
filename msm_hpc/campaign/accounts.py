"""A campaign's accounts: what it took so far, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.asking import AskingStep, askings
from msm_hpc.campaign.needs import Training, trainings
from msm_hpc.campaign.outlook import Outlook, outlook
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.ledger import NO_JOBS, Ledger, ledger, tries_at
from msm_hpc.launch.causes import JobEnd
from msm_hpc.launch.job import JobRef


@dataclass(frozen=True)
class Accounts:
    """``spent`` is in GPU-hours where trainings get GPUs; ``left`` is None where layouts or models are not known."""

    spent: Ledger
    left: Outlook | None


def accounts(
    session: Session,
    found: Sequence[Training] | None = None,
    asked: Sequence[AskingStep] | None = None,
    ends: Mapping[JobRef, JobEnd] = NO_JOBS,
) -> Accounts:
    """Those of the steps of a campaign, whoever made them.

    ``found`` are its trainings and ``asked`` its steps that ask models, where they were looked up; ``ends`` is what the
    cluster was found to keep of jobs.
    """
    graph, store, cluster = session.graph, session.store, session.config.cluster
    tries = tries_at(store.having("attempts", graph.steps).values(), ends)
    in_ranks = ledger(tries, on_gpus=False)
    spent = ledger(tries, on_gpus=True) if cluster.trains_on_gpus else in_ranks
    if any(step.kind == "train" and step.config.layout.auto for step in graph.steps):
        return Accounts(spent, None)
    try:
        if found is None:
            found = trainings(graph, store, cluster, session.packed) if graph.needed(store.done) else ()
        if asked is None:
            asked = askings(graph, store, cluster)
        left = outlook(graph, store, cluster, found, in_ranks, asked)
    except UserError:  # a model that is gone since: questions refuse nothing
        left = None
    return Accounts(spent, left)
