"""A view that is printed again and again until Ctrl-C: in its place on a terminal, below the one before in a pipe."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.live import Live
from rich.text import Text

from msm_hpc.base.text import say


def watch(console: Console, seconds: float, show: Callable[[Console], bool]) -> None:
    """Call ``show``, which prints a view and says whether it may change, every ``seconds`` for as long as that is so.

    Ctrl-C ends it, too. The last view stays on the terminal.
    """
    live = Live(console=console, auto_refresh=False)
    try:
        with live:
            while _look(live, seconds, show):
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _look(live: Live, seconds: float, show: Callable[[Console], bool]) -> bool:
    """Print the view out of sight, and then all of it at once; whether it may change."""
    console, page = live.console, io.StringIO()
    plain = console.no_color or console.color_system is None
    unseen = Console(file=page, width=console.width, force_terminal=console.is_terminal, no_color=plain)
    changes = show(unseen)
    say(unseen, f"{datetime.now():%Y-%m-%d %H:%M:%S}" + (f", again in {seconds:g} s" if changes else ""))
    if console.is_terminal and not console.is_dumb_terminal:
        live.update(Text.from_ansi(page.getvalue()), refresh=True)
    else:
        console.file.write(page.getvalue() + "\n")
        console.file.flush()
    return changes
