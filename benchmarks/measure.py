"""What a command costs, all its processes together.

``getrusage`` of a child counts those of *its* children that it has waited for. A daemon (the fork server of
``multiprocessing``) outlives its parent and would be left out, so this process adopts orphans (``prctl``'s
``PR_SET_CHILD_SUBREAPER``, Linux) and waits for every one of them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Usage:
    """The cost of one command.

    Attributes:
        cpu: user and system seconds of all its processes.
        wall: seconds until the last of them ended.
        peak: bytes of memory of the largest process.
    """

    cpu: float
    wall: float
    peak: int

    def __add__(self, other: Usage) -> Usage:
        """One command after the other."""
        return Usage(self.cpu + other.cpu, self.wall + other.wall, max(self.peak, other.peak))


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Usage:
    """Run a command to the end of its last process; what it prints goes to ``log``.

    Raises:
        RuntimeError: it failed; the message has the end of the log.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    begin = time.perf_counter()
    with log.open("wb") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    usage, status = _wait_for_all(child.pid)
    child.returncode = os.waitstatus_to_exitcode(status)  # waited for here, behind Popen's back
    if child.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)}\nended with {child.returncode}:\n{tail}")
    return Usage(usage.cpu, time.perf_counter() - begin, usage.peak)


def _wait_for_all(child: int) -> tuple[Usage, int]:
    """Waits until no process is left; the sum, and the wait status of the child."""
    total, child_status = Usage(0, 0, 0), 0
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return total, child_status
        total += Usage(usage.ru_utime + usage.ru_stime, 0, usage.ru_maxrss * 1024)
        if pid == child:
            child_status = status
