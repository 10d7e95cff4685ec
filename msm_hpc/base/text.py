"""Text for people: lines that a terminal would break within words, and lists of names."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

CHARACTERS_PER_TOKEN = 4
"""By rule of thumb, of English; for what a tokenizer has not seen yet."""
COMMAND = re.compile(r"`[^`\n]*`")
GLUE = "\0"


def wrapped(line: str, width: int) -> str:
    """``line`` on as many lines of ``width`` characters as it takes, the next ones indented as the first is.

    What is to be copied stays whole, on a line that a terminal may have to break: a word, such as a path, and a command
    in backticks.
    """
    glued = COMMAND.sub(lambda command: command[0].replace(" ", GLUE), line)
    indent = line[: len(line) - len(line.lstrip())]
    broken = textwrap.fill(
        glued, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, expand_tabs=False
    )
    return broken.replace(GLUE, " ")


def few(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def meant(name: str, known: Iterable[str]) -> str:
    """``; did you mean NAME?`` where one of the known names is like ``name``."""
    near = get_close_matches(name, [*known], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def say(console: Console, *lines: str, style: str = "") -> None:
    """Print lines as they are, without markup; on a terminal broken between words."""
    for line in itertools.chain.from_iterable(each.split("\n") for each in lines):
        shown = wrapped(line, console.width) if console.is_terminal else line
        console.print(shown, style=style, markup=False, highlight=False, soft_wrap=True)
