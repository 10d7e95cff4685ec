"""What a rehearsal has cut."""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.campaign.rehearsal import Cut
from msm_hpc.cli.views.table import Listing


def cuts_table(cuts: Sequence[Cut]) -> Listing:
    """The true value and the rehearsed one."""
    table = Listing(("cut", "true", "rehearsed"), "Cut for the rehearsal")
    for cut in cuts:
        table.add(cut.key, cut.true, cut.rehearsed)
    return table
