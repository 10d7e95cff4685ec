"""Why evaluations and audits that a report reads are not there: their own state, or how what they read ended."""

from __future__ import annotations

from collections.abc import Mapping

from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import BAD, StepStatus, statuses
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store

LONGEST = 160


def why_absent(graph: Graph, store: Store) -> dict[str, str]:
    """By the id of each evaluation and audit that is not done, why, in a few words."""
    assert graph.report is not None, "asked of a campaign that measures something"
    evaluations, audits = graph.report.inputs["evaluations"], graph.report.inputs["audits"]
    assert isinstance(evaluations, Mapping) and isinstance(audits, Mapping)
    read = (*evaluations.values(), *audits.values())
    absent = [step for step in read if isinstance(step, Step) and not store.done(step)]
    if not absent:
        return {}
    found = {each.step.identity: each for each in statuses(graph, store, holders(graph.needed(store.done), store))}
    return {step.id: _why(found[step.identity], found) for step in absent}


def _why(status: StepStatus, found: Mapping[str, StepStatus]) -> str:
    behind = status
    while behind.state == "blocked":
        behind = next(found[each.identity] for each in behind.step.parents if found[each.identity].state in BAD)
    what = behind.state if behind is status else f"{behind.step.name} {behind.state}"
    said = str(behind.end).partition("\n")[0] if behind.end else behind.reason
    words = what + (f" ({said})" if said else "")
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"
