"""A sign of life between hosts: a file that its owner touches, and that others watch."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SECONDS_BETWEEN_TOUCHES = 10.0


@contextlib.contextmanager
def touching(touch: Callable[[], None]) -> Iterator[None]:
    """Call ``touch`` every few seconds, in a thread, as long as this is open."""
    over = threading.Event()

    def keep_touching() -> None:
        while not over.wait(SECONDS_BETWEEN_TOUCHES):
            with contextlib.suppress(OSError):  # a file server that is away for a while, or a file that is gone
                touch()

    threading.Thread(target=keep_touching, daemon=True).start()
    try:
        yield
    finally:
        over.set()


class Watched:
    """Files, and for how long none of their owners has touched or replaced them while we looked.

    That is counted by our own clock: the clocks of two hosts differ, so that no time in a file is compared with it.
    """

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def seconds(self, path: Path) -> float:
        """For how many seconds ``path`` has stayed as it is; 0 at the first look.

        Raises:
            FileNotFoundError: it is gone.
        """
        with path.open("rb") as file:  # opening has NFS ask for the times again
            stat = os.fstat(file.fileno())
        state, now = (stat.st_ino, stat.st_mtime_ns), time.monotonic()
        if path not in self._seen or self._seen[path][0] != state:
            self._seen[path] = (state, now)
        return now - self._seen[path][1]
