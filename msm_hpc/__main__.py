"""The ``msm`` command from its first instant: Ctrl-C while modules are still imported is a line, not a traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Import the command and run it; returns its exit code."""
    signal.signal(signal.SIGINT, _leave)
    gc.set_threshold(100_000, 20, 20)  # modules and steps stay: to look through them for garbage is a tenth of all work
    from msm_hpc.cli.main import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return command()


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun, and an exception within an import would be printed by whoever catches it."""
    os.write(2, b"\nmsm: interrupted before anything was done\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
