"""The end of a process whose main thread is stuck: in a collective, say, that waits for a rank that has died.

Nothing can be raised in such a thread, so no ``with`` block closes and no record gets written. What must be written all
the same is registered here, and :func:`abort`, called from another thread, sees to it.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h

log = logging.getLogger(__name__)
_last_words: list[Callable[[Exception], None]] = []


@contextlib.contextmanager
def on_abort(say: Callable[[Exception], None]) -> Iterator[None]:
    """While this is open, :func:`abort` calls ``say(error)``."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


def abort(error: Exception) -> None:
    """End this process at once, with exit status 70, because of ``error``; the innermost last words come first."""
    log.critical("%s: %s", type(error).__name__, error)
    try:
        for say in reversed(_last_words):
            say(error)
    finally:
        os._exit(EXIT_STATUS)
