"""Lines for a terminal: broken between words, never within what is to be copied."""

from __future__ import annotations

import pytest
from rich.console import Console

from msm_hpc.base.text import say, wrapped


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ""),
        ("short", "short"),
        ("one two three four", "one two\nthree four"),
        ("  one two three", "  one two\n  three"),
        ("see /a/path/that/is/long now", "see\n/a/path/that/is/long\nnow"),
        ("run `msm run demo root=/x` again", "run\n`msm run demo root=/x`\nagain"),
        ("well-known half-words", "well-known\nhalf-words"),
    ],
)
def test_lines_break_between_words(line: str, expected: str) -> None:
    assert wrapped(line, 10) == expected


def test_a_pipe_gets_lines_as_they_are() -> None:
    line = "[bold]no markup[/] " + "word " * 50
    console = Console(width=40, force_terminal=False)
    with console.capture() as capture:
        say(console, line, "two\nlines")
        say(console)
    assert capture.get() == f"{line}\ntwo\nlines\n"
