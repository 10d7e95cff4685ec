"""The look of our tables: rules only below the headings, so that eight columns fit into 80 characters."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table


def plain_table(*headings: str, title: str | None = None) -> Table:
    """An empty table with these headings; a value too long for its column is wrapped, never cut."""
    columns = (Column(heading, overflow="fold") for heading in headings)
    return Table(
        *columns,
        title=title,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
