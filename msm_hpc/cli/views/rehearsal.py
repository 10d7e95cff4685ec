"""What a rehearsal has cut."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from msm_hpc.campaign.rehearsal import Cut
from msm_hpc.cli.views.table import plain_table


def cuts_table(cuts: Sequence[Cut]) -> Table:
    """The true value and the rehearsed one."""
    table = plain_table("cut", "true", "rehearsed", title="Cut for the rehearsal")
    for cut in cuts:
        table.add_row(*(escape(text) for text in (cut.key, cut.true, cut.rehearsed)))
    return table
