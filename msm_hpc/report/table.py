"""The results as a table for the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from msm_hpc.report.results import Condition, Rate, Results

MISSING = "missing"


def render_table(results: Results) -> Table:
    """One row a condition, one column a value: the rate pooled over seeds, with its 95% interval."""
    table = Table(
        title=Text(results.title, style="bold"),
        caption=_caption(results),
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    if results.several_models:
        table.add_column("model")
    table.add_column("arm")
    table.add_column("spec")
    for heading in ("AFT chats", "seeds"):
        table.add_column(heading, justify="right")
    for value in results.values:
        table.add_column(Text(value), justify="right")
    if not results.values:
        table.add_column("rates")
    for condition in results.conditions:
        rates = [_text(condition.rate(value)) for value in results.values] or [MISSING]
        model = [Text(condition.model)] if results.several_models else []
        size = "-" if condition.size is None else f"{condition.size:,}"
        table.add_row(*model, Text(condition.arm), Text(condition.spec or "-"), size, seeds(condition), *rates)
    return table


def seeds(condition: Condition) -> str:
    """How many seeds were evaluated: ``2``, or ``1 of 2`` where some are missing."""
    found = sum(not cell.missing for cell in condition.cells)
    return str(found) if found == len(condition.cells) else f"{found} of {len(condition.cells)}"


def _text(rate: Rate | None) -> str:
    return f"{rate.rate:.2f} {rate.low:.2f}-{rate.high:.2f}" if rate else MISSING


def _caption(results: Results) -> Text:
    interval = "Rate of preferring the option that expresses the value, with 95% interval clustered by domain."
    return Text("\n".join([interval, *(f"Note: {notice}" for notice in results.notices)]))
