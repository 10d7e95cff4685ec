"""Rows under headings, in the form that their reader can take.

A terminal gets a table if its words fit; a narrow one gets a block for each row, as nothing is ever cut or broken
within a word::

    stage     steps  states                       midtrain
    ────────────────────────────────                steps 4, states 1 running,
    midtrain      4  1 running, 3 waiting           3 waiting

A pipe gets a line for each row, in columns that are two spaces or more apart; an empty cell is ``-`` there, so that
every row has as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from msm_hpc.base.text import say

GAP = 2
BREAK = "\x1f"
"""In a cell: a new line in a table, a space elsewhere."""
ITEM = "\x1e"
"""In a cell: a space ahead of what stays together on a line of a table, where it fits on one."""
Cell = str | Text | Sequence[str]
"""A text, or several that stand on a line each in a table."""


@dataclass
class Listing:
    """Rows under ``headings``; columns in ``right`` hold numbers."""

    headings: Sequence[str]
    title: str = ""
    notes: Sequence[str] = ()
    right: frozenset[str] = frozenset()
    rows: list[tuple[Text, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row with a cell for each heading."""
        assert len(cells) == len(self.headings)
        self.rows.append(tuple(_text(cell) for cell in cells))

    def print(self, console: Console) -> None:
        """Print title, rows and notes."""
        if self.title:
            say(console, self.title)
        if not console.is_terminal:
            say(console, *self._lines())
        elif (widths := self._widths(console.width)) is not None:
            console.print(self._table(widths))
        else:
            self._print_blocks(console)
        say(console, *self.notes)

    def _widths(self, room: int) -> list[int] | None:
        """The width of each column; None where the words do not fit side by side."""
        columns = [[_broken(row[number]).plain for row in self.rows] for number in range(len(self.headings))]
        widths = [
            max(len(word) for cell in [heading, *column] for word in [*cell.split(), ""])
            for heading, column in zip(self.headings, columns, strict=True)
        ]
        if sum(widths) + GAP * (len(widths) - 1) > room:
            return None
        wished = [[len(line) for cell in column for line in cell.split("\n")] for column in columns]
        _widen(widths, [max(lengths, default=0) for lengths in wished], room)
        _widen(widths, [len(heading) for heading in self.headings], room)
        return widths

    def _table(self, widths: Sequence[int]) -> Table:
        columns = (
            Column(Text(heading), width=width, justify="right" if heading in self.right else "left")
            for heading, width in zip(self.headings, widths, strict=True)
        )
        table = Table(*columns, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        apart = any("\n" in row[0].plain for row in self.rows)
        for row in self.rows:
            table.add_row(*map(_filled, map(_broken, row), widths), end_section=apart)
        return table

    def _print_blocks(self, console: Console) -> None:
        """The first cell, and below it the others that are not empty, each behind its heading."""
        for first, *others in self.rows:
            say(console, _joined(first), style="bold")
            there = [(heading, cell) for heading, cell in zip(self.headings[1:], others, strict=True) if cell.plain]
            short = [f"{heading} {_joined(cell)}" for heading, cell in there if "\n" not in cell.plain]
            long = [f"{heading} {_joined(cell)}" for heading, cell in there if "\n" in cell.plain]
            say(console, *(f"  {line}" for line in [", ".join(short), *long] if line))

    def _lines(self) -> Iterator[str]:
        """Headings and rows, a line each."""
        rows = [list(self.headings), *([_joined(cell) or "-" for cell in row] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield (" " * GAP).join(padded).rstrip()


def _widen(widths: list[int], wishes: Sequence[int], room: int) -> None:
    """Give columns the width that they wish, as far as there is room: those first that lack the least."""
    for number in sorted(range(len(widths)), key=lambda number: wishes[number] - widths[number]):
        spare = room - sum(widths) - GAP * (len(widths) - 1)
        widths[number] += max(min(wishes[number] - widths[number], spare), 0)


def _text(cell: Cell) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text(cell if isinstance(cell, str) else "\n".join(cell))


def _joined(cell: Text) -> str:
    return cell.plain.replace("\n", "; ").replace(BREAK, " ").replace(ITEM, " ")


def _filled(cell: Text, width: int) -> Text:
    """``cell`` with lines of as many whole items as fit; as long as before."""
    first, *items = cell.plain.split(ITEM)
    filled, used = first, len(first)
    for item in items:
        fits = used + 1 + len(item) <= width
        filled += f" {item}" if fits else f"\n{item}"
        used = used + 1 + len(item) if fits else len(item)
    cell.plain = filled
    return cell


def _broken(cell: Text) -> Text:
    broken = cell.copy()
    broken.plain = cell.plain.replace(BREAK, "\n")  # as long as before, so that styles stay where they are
    return broken
