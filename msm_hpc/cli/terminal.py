"""Where commands print to: the terminal, or a file or pipe, whose lines are as long as what they hold."""

from __future__ import annotations

import sys

from rich.console import Console

PIPE_WIDTH = 1000
"""Wider than any table of ours, so that none is wrapped for a reader that is no terminal."""


def terminal() -> Console:
    """The terminal, or for a file, a pipe or a closed output a page on which nothing is wrapped."""
    return Console() if sys.stdout and sys.stdout.isatty() else Console(width=PIPE_WIDTH)
