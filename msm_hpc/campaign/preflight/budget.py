"""``cluster.budget_gpu_hours``: what may be spent below a root, over all campaigns and all time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from msm_hpc.campaign.outlook import Outlook
from msm_hpc.campaign.views.ledger import ledger, tries_at
from msm_hpc.config.cluster import Cluster
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash

KEY = "cluster.budget_gpu_hours"


@dataclass(frozen=True)
class BudgetCheck:
    """With the numbers: that the budget is, or would be, exceeded; else what the forecast leaves out, if anything."""

    problem: str | None = None
    note: str | None = None


def check_budget(store: Store, cluster: Cluster, left: Outlook | None) -> BudgetCheck:
    """Hold what was spent below the root, and what is ``left`` of a campaign by forecast, against the budget."""
    budget = cluster.budget_gpu_hours
    if budget is None or (left is not None and not left.steps):
        return BudgetCheck()
    folders = chain(store.folders(), Trash(store.root).spent())
    spent = ledger(tries_at(folders), cluster.trains_on_gpus)
    hours, more = spent.hours(), left.hours if left else 0.0
    if hours + more > budget or hours >= budget:
        return BudgetCheck(
            problem=f"{KEY} is {budget:g}, and {hours:,.2f} {spent.unit} are spent below {store.root}; what is left of "
            f"this campaign takes {more:,.2f} by forecast: raise the budget, or ask for less"
        )
    unknown = ", ".join(left.unknown) if left else "this campaign"
    if not unknown:
        return BudgetCheck()
    return BudgetCheck(
        note=f"{KEY}={budget:g} is held against {hours:,.2f} {spent.unit} spent and {more:,.2f} forecast, without what "
        f"is not known yet: {unknown}"
    )
