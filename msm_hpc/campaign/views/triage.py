"""Which rank of a failed job failed first, on which host, and where the others stood: by the logs of all ranks.

What one rank does brings down the others, mostly within seconds, each with an error of its own. The first is found, in
this order,

1. by the verdict of the watchdog (:mod:`msm_hpc.training.watch`) on a rank that failed, fell silent or hangs;
2. of a collective that timed out under NCCL: the rank that had enqueued the fewest, and so never came to it;
3. by srun, which reports tasks that were killed or ran out of memory in the order in which they ended;
4. by the times of the errors in the logs, those last that only say that another rank was lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msm_hpc.campaign.views.ends import Ended
from msm_hpc.launch.logs import STARTS_IN, log_of, rank_log, read_end
from msm_hpc.store.store import Store

VERDICT = re.compile(r"\brank (?P<rank>\d+) \(host (?P<host>[^,)]+)")
STAMP = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d{3} ")
ENDS = re.compile(r"rank \d+ on (?P<host>\S+) ends with (?P<error>.+)")
ABORTED = re.compile(r"msm_hpc\.base\.abort (?P<error>.+)")
RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit|Warning)\b.*")
FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)')
PREFIX = re.compile(r"\[rank\d+\]: ?")
"""In front of each line of a traceback that PyTorch prints."""
STANDS = "This rank stands in"
OF_ANOTHER = re.compile(r"RankLostError|DistBackendError|DistNetworkError|gloo|NCCL|[Cc]onnection")
"""Errors that are mostly of another rank's making."""
ENQUEUED = re.compile(r"last enqueued work: (\d+)")
SRUN = re.compile(r"srun: error: (?P<host>\S+): tasks? (?P<rank>\d+)\S*: (?P<what>(?!Exited with exit code).+)")


@dataclass
class RankEnd:
    """What the log of a rank says of its end: since ``at``, ``error``, raised at the code line ``where``.

    ``stands`` is the line at which it stood when a hang was found, ``enqueued`` its last collective under NCCL, and
    ``last`` when it last said anything.
    """

    rank: int
    log: Path
    host: str = ""
    at: str = ""
    error: str = ""
    where: str = ""
    stands: str = ""
    enqueued: int | None = None
    last: str = ""

    @property
    def caused(self) -> bool:
        """Whether its error is its own, for all that is known."""
        return bool(self.error) and not OF_ANOTHER.search(self.error)


@dataclass(frozen=True)
class Triage:
    """The ends of all ranks of a job, and the number of the first with what shows that it is, if anything does."""

    ranks: tuple[RankEnd, ...]
    first: int | None = None
    host: str = ""
    shown_by: str = ""


@dataclass
class _Reader:
    """Reads the log of a rank line by line."""

    end: RankEnd
    now: str = ""
    frames_are_of: str = field(default="", init=False)

    def read(self, line: str) -> None:
        line = PREFIX.sub("", line, count=1)
        if stamp := STAMP.match(line):
            self.now, self.frames_are_of = stamp[1], ""
        if found := ENDS.search(line) or (None if self.end.error else ABORTED.search(line)):
            self.end.error, self.end.at = found["error"], self.now
            self.end.host = found.groupdict().get("host", "")
        elif line.startswith("Traceback (most recent call last)"):
            self.frames_are_of = "error"
        elif STANDS in line:
            self.frames_are_of = "stand"
        elif frame := FRAME.match(line):
            place = f"{Path(frame['file']).name}:{frame['line']}, in {frame['function']}"
            if self.frames_are_of == "stand":
                self.end.stands = place
            elif self.frames_are_of:
                self.end.where = place
        elif self.frames_are_of == "error" and RAISED.match(line) and not self.end.error:
            self.end.error, self.end.at = line, self.now
        elif enqueued := ENQUEUED.search(line):
            self.end.enqueued = int(enqueued[1])


def triage(end: Ended, store: Store) -> Triage:
    """What the logs of the ranks of a failed try say."""
    newest = store.of(end.step).newest()
    if end.log is None or newest is None:
        return Triage(())
    attempt = newest.read()
    begun = f"{STARTS_IN} {newest.out}\n"  # a job that was requeued adds to the log of its last start
    ranks = tuple(_of_rank(rank, rank_log(end.log, rank), begun) for rank in range(attempt.ranks))
    job_log = log_of(store.jobs, attempt.job)
    return _first(end, ranks, read_end(job_log, "")) or Triage(ranks)


def _of_rank(rank: int, log: Path, begun: str) -> RankEnd:
    reader = _Reader(RankEnd(rank, log))
    for line in read_end(log, begun):
        reader.read(line)
    reader.end.last = reader.now
    return reader.end


def _first(end: Ended, ranks: Sequence[RankEnd], job_log: Sequence[str]) -> Triage | None:
    """The first rank to fail, by what shows it best."""
    if found := VERDICT.search(end.message):
        return Triage(tuple(ranks), int(found["rank"]), found["host"], "the watchdog names it")
    waited = [each.enqueued for each in ranks if each.enqueued is not None]
    if waited and (late := [each for each in ranks if each.enqueued is None or each.enqueued < max(waited)]):
        how = f"it never came to collective {max(waited)}, for which the others waited"
        return Triage(tuple(ranks), late[0].rank, late[0].host, how)
    if found := next(filter(None, map(SRUN.search, job_log)), None):
        return Triage(tuple(ranks), int(found["rank"]), found["host"], f"srun reports it first: {found['what']}")
    failed = sorted((each for each in ranks if each.error), key=lambda each: (not each.caused, each.at))
    if not failed:
        return None
    how = "its error is the first" if failed[0].caused else "its error is the first of those that blame another rank"
    return Triage(tuple(ranks), failed[0].rank, failed[0].host, how)


def alike(ranks: Iterable[RankEnd]) -> Iterator[list[RankEnd]]:
    """Ranks that ended in the same words, or stood at the same line; those that ended first come first."""
    groups: dict[tuple[str, str, str], list[RankEnd]] = {}
    for each in sorted(ranks, key=lambda each: (each.at or "9", each.rank)):
        groups.setdefault((each.error, each.where, each.stands), []).append(each)
    yield from groups.values()
