"""Rows for every reader: a table, blocks where it is narrow, whole lines in a pipe; nothing is cut."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.text import Text

from msm_hpc.cli.views.table import BREAK, ITEM, Listing

NAME = "pack/midtrain/documents-affordability+pretraining/seed0"


def listing() -> Listing:
    made = Listing(
        ("name", "runs", "waits for"), "Two rows of a table", ["A note of seven words and more."], frozenset({"runs"})
    )
    made.add(NAME, "12", ["model (afterok)", "tokenize, elements 0-1 (afterany)"])
    made.add(f"aft{BREAK}(TP2)", Text("3", style="green"), "")
    return made


def shown(width: int, terminal: bool = True) -> str:
    console = Console(width=width, force_terminal=terminal, color_system=None)
    with console.capture() as capture:
        listing().print(console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def test_a_wide_terminal_gets_a_table() -> None:
    assert shown(120).splitlines()[3:] == [
        f"{NAME}    12  model (afterok)",
        " " * 63 + "tokenize, elements 0-1 (afterany)",
        f"{'aft':<60}3",
        "(TP2)",
        "A note of seven words and more.",
    ]


def test_a_narrow_terminal_gets_blocks() -> None:
    assert shown(40) == "\n".join(
        [
            "Two rows of a table",
            NAME,
            "  runs 12",
            "  waits for model (afterok); tokenize,",
            "  elements 0-1 (afterany)",
            "aft (TP2)",
            "  runs 3",
            "A note of seven words and more.",
        ]
    )


def test_a_pipe_gets_a_line_for_each_row_and_as_many_columns() -> None:
    lines = shown(40, terminal=False).splitlines()
    assert lines[2].split("  ")[:2] == [NAME, "12"]
    assert lines[2].endswith("model (afterok); tokenize, elements 0-1 (afterany)")
    assert lines[3].split() == ["aft", "(TP2)", "3", "-"]
    assert lines[1].index("waits for") == lines[2].index("model") == lines[3].index("-")


@pytest.mark.parametrize("width", range(10, 130, 7))
def test_no_width_loses_a_word_or_breaks_one(width: int) -> None:
    words = shown(width).split()
    for word in f"{NAME} 12 model (afterok) elements 0-1 (afterany) aft (TP2) 3 seven".split():
        assert any(word in each for each in words), word


def test_items_stay_on_a_line_and_are_a_space_apart_elsewhere() -> None:
    made = Listing(("stage", "states"))
    made.add(
        "aft", Text(f",{ITEM}").join([Text("1 running"), Text("23 pending (Resources)", style="blue"), Text("4 lost")])
    )

    def lines(terminal: bool, width: int) -> list[str]:
        console = Console(width=width, force_terminal=terminal, color_system=None)
        with console.capture() as capture:
            made.print(console)
        return [line.strip() for line in capture.get().splitlines()[1:]]

    for width in range(34, 60):
        together = " | ".join(lines(True, width))
        assert all(item in together for item in ("1 running", "23 pending (Resources)", "4 lost")), width
    assert lines(False, 40) == ["aft    1 running, 23 pending (Resources), 4 lost"]
