"""Failed steps, sort by sort: the cause, and of each rank how it ended, the one that failed first above all."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from msm_hpc.base.text import few, say
from msm_hpc.campaign.views.ends import Ended
from msm_hpc.campaign.views.failures import EXPLAINED, alike
from msm_hpc.campaign.views.triage import RankEnd, Triage, triage
from msm_hpc.campaign.views.triage import alike as alike_ranks
from msm_hpc.cli.views.failures import print_failure
from msm_hpc.cli.views.table import Listing
from msm_hpc.store.store import Store

MOST = 5
"""Sorts of failures that are looked into; `msm triage STEP` looks into any."""


def print_triage(console: Console, ends: Sequence[Ended], store: Store) -> None:
    """A block for each sort of failure."""
    failures = alike(ends)
    for failure in failures[:MOST]:
        print_failure(console, failure)
        if failure.first.cause not in EXPLAINED:
            _print_ranks(console, triage(failure.first, store))
        say(console, "")
    if hidden := failures[MOST:]:
        names = few([failure.first.step.name for failure in hidden])
        say(console, f"and {len(hidden)} other sorts of failures: {names}; `msm triage STEP` looks into one")


def _print_ranks(console: Console, found: Triage) -> None:
    first = next((each for each in found.ranks if each.rank == found.first), None)
    if first is not None:
        host = f" on {found.host or first.host}" if found.host or first.host else ""
        at = f" at {first.at}" if first.at else ""
        say(console, f"  first: rank {first.rank}{host}{at}: {found.shown_by}", style="bold")
        known = [
            first.error,
            first.where and f"raised at {first.where}",
            first.stands and f"it stood at {first.stands}",
        ]
        say(console, *(f"    {line}" for line in known if line), f"    log: {first.log}")
    if len(found.ranks) > 1:
        _ranks_table(found.ranks).print(console)


def _ranks_table(ranks: Sequence[RankEnd]) -> Listing:
    """A row for the ranks that ended alike, in the order in which they ended."""
    table = Listing(("ranks", "at", "ended with", "stood at"))
    for group in alike_ranks(ranks):
        first = group[0]
        numbers = few([str(each.rank) for each in sorted(group, key=lambda each: each.rank)])
        last = first.last.partition(" ")[2]
        silent = f"no error in its log, which ends at {last}" if last else "nothing in its log since it began"
        table.add(numbers, first.at.partition(" ")[2], first.error or silent, first.stands or first.where)
    return table
