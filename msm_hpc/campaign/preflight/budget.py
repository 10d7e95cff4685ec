"""``cluster.budget_gpu_hours``: what may be spent below a root, over all campaigns and all time."""

from __future__ import annotations

from itertools import chain

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.outlook import Outlook
from msm_hpc.campaign.views.ledger import ledger, tries_at
from msm_hpc.config.cluster import Cluster
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash

KEY = "cluster.budget_gpu_hours"


def check_budget(store: Store, cluster: Cluster, left: Outlook | None) -> str | None:
    """Hold what was spent below the root, and what is ``left`` of a campaign by forecast, against the budget.

    Returns:
        What the forecast leaves out, to be said; None where there is no budget, or nothing is left out.

    Raises:
        UserError: it is, or would be, exceeded; with the numbers.
    """
    budget = cluster.budget_gpu_hours
    if budget is None or (left is not None and not left.steps):
        return None
    folders = chain(store.folders(), Trash(store.root).spent())
    spent = ledger(tries_at(folders), cluster.trains_on_gpus)
    hours, more = spent.hours(), left.hours if left else 0.0
    if hours + more > budget or hours >= budget:
        raise UserError(
            f"{KEY} is {budget:g}, and {hours:,.2f} {spent.unit} are spent below {store.root}; what is left of this "
            f"campaign takes {more:,.2f} by forecast: raise the budget, or ask for less"
        )
    unknown = ", ".join(left.unknown) if left else "this campaign"
    if not unknown:
        return None
    return (
        f"{KEY}={budget:g} is held against {hours:,.2f} {spent.unit} spent and {more:,.2f} forecast, without what is "
        f"not known yet: {unknown}"
    )
