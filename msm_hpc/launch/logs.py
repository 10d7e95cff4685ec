"""The logs of jobs: where each lies, and what of it is worth showing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from msm_hpc.launch.job import JobRef

LOG_LINES = 12
TAIL_BYTES = 16_384
END_BYTES = 2**18
"""Enough for the stacks of a rank and what came before."""
STARTS_IN = "starts in"
"""What a log says between the name of a step and the folder that its stage writes into."""
RAISED = ("Submitted job triggered an exception", "Traceback (most recent call last)")
"""submitit's line above the traceback of what ended a job, and Python's."""


def log_of(folder: Path, job: JobRef) -> Path:
    """The standard error of a job's rank 0, on Slurm of the script too, in the ``folder`` that it was started with."""
    return folder / f"{job.id}_0_log.err"


def read_log(path: Path, traceback: bool = True) -> Iterator[str]:
    """The lines of a log, none where there is no such file; without ``traceback`` up to what ended the job."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = (line.rstrip("\n") for line in file)
        yield from lines if traceback else takewhile(lambda line: not any(words in line for words in RAISED), lines)


def tail(path: Path) -> list[str]:
    """The last lines of a log, however long it is."""
    return _end_of(path).splitlines()[-LOG_LINES:]


def lines_of(out: Path, log: Path) -> list[str]:
    """What a log has, in the part of it that is read, of the stage that wrote into ``out``; all where it names none.

    A job that was requeued adds to the log of its last start.
    """
    text = _end_of(log).rpartition(f"{STARTS_IN} {out}\n")[2]
    return text.partition(f" {STARTS_IN} ")[0].splitlines()


def _end_of(path: Path, most: int = TAIL_BYTES) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - most, 0))
        return file.read().decode(errors="replace")


def all_logs(log: Path, job: JobRef, ranks: int) -> list[Path]:
    """The logs of the ranks of which ``log`` is the first one's; of a job of several steps also its own.

    In that one Slurm and the script say what became of it.
    """
    own = log_of(log.parent, job)
    return [rank_log(each, rank) for each in dict.fromkeys((log, own)) for rank in range(ranks)]


def read_end(path: Path, begun: str) -> list[str]:
    """The last lines of a log, below the last one that ends with ``begun``, if any does; none where there is no log."""
    text = _end_of(path, END_BYTES)
    return (text.rpartition(begun)[2] if begun else text).splitlines()


def rank_log(log: Path, rank: int) -> Path:
    """The log of another rank of the job whose rank 0 writes ``log``."""
    return log.with_name(re.sub(r"_0_log\.err$", f"_{rank}_log.err", log.name))
