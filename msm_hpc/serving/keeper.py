"""A program that runs a server for as long as its owner lives and its file is there.

    python keeper.py OWNER_PID OWNER_START FILE COMMAND...

A job makes each step in a process of its own, and the server is to outlive the step that started it, but never the job:
so it is the child of this, which looks after both. When the owner is killed, the server ends within a second; when this
is killed, so is the server, by the kernel. It needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 10.0
_PR_SET_PDEATHSIG = 1
_OF_THE_JOB = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What Slurm sends to all processes of a job: what is asked now is still to be answered."""


def start_of(pid: int) -> str:
    """When a process started, in the kernel's ticks: a later one may have its id; empty where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def main(owner: int, start: str, file: Path, command: list[str]) -> int:
    """Run the command until it ends by itself, or is not wanted any more; the exit status is its own."""
    for each in _OF_THE_JOB:
        signal.signal(each, signal.SIG_IGN)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_in_the_server)
    while server.poll() is None and file.exists() and start_of(owner) == start:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(SECONDS_BETWEEN_LOOKS)
    _end(server)
    if start_of(owner) != start:
        shutil.rmtree(file.parent, ignore_errors=True)
    return server.returncode


def _in_the_server() -> None:
    """The kernel kills the server when this process dies; of the job's signals it knows those that end it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_DFL)


def _end(server: subprocess.Popen[bytes]) -> None:
    """The server and all that it started."""
    for each in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, each)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(SECONDS_TO_END)


if __name__ == "__main__":
    _, _owner, _start, _file, *_command = sys.argv
    sys.exit(main(int(_owner), _start, Path(_file), _command))
