"""Decides, from what one rank has seen of the others, which rank is lost: a function of a snapshot, without effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from msm_hpc.training.watch.hangs import CodeLine, Standing, hanging_rank

LIMIT_SECONDS = 60.0
# Slurm kills 30 s after SIGTERM, which it also sends to the ranks that are left when one has died.
LIMIT_AFTER_SIGNAL_SECONDS = 15.0
DONE = b"done"


@dataclass(frozen=True)
class RankProcess:
    """The process of a rank; ``started`` is when it started, in seconds since the epoch."""

    rank: int
    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"rank {self.rank} (host {self.host}, process {self.pid})"


@dataclass(frozen=True)
class Sighting:
    """What was last seen of a rank: its ``beat``, when that changed, and the line that it is at."""

    beat: bytes
    at: float
    standing: Standing

    def updated(self, beat: bytes, now: float) -> Sighting:
        """The sighting after ``beat`` was read."""
        if beat == self.beat:
            return self
        if beat == DONE:
            return replace(self, beat=beat, at=now)
        line = CodeLine.parse(beat.decode().split(" ", 1)[1])
        return Sighting(beat, now, self.standing.seen(line, now))


class Kind(Enum):
    """How a rank was lost."""

    REPORTED = "its failure is in the store, for all ranks to read"
    SILENT = "it gives no sign of life"
    HANGS = "it is alive, but the others wait for it"


@dataclass(frozen=True)
class Verdict:
    """That ``rank`` is lost, how, and the message that says so."""

    rank: int
    kind: Kind
    message: str


@dataclass(frozen=True)
class Snapshot:
    """What one rank knows of the job at one moment.

    Attributes:
        own: number of this rank.
        ranks: the processes of all ranks, in order; rank 0 holds the store.
        sightings: of all ranks, in order.
        answered: when the store last answered.
        reported: a failure that the store holds.
    """

    own: int
    ranks: tuple[RankProcess, ...]
    sightings: tuple[Sighting, ...]
    answered: float
    reported: Verdict | None = None

    def heard(self, beats: Sequence[bytes], now: float) -> Snapshot:
        """The snapshot after the store answered with the beats of all ranks."""
        updated = (sighting.updated(beat, now) for sighting, beat in zip(self.sightings, beats, strict=True))
        return replace(self, sightings=tuple(updated), answered=now)

    def restarted(self, now: float) -> Snapshot:
        """The snapshot with all waiting times counted from now, because this process was stopped in the meantime."""
        sightings = tuple(replace(sighting, at=now) for sighting in self.sightings)
        return replace(self, sightings=sightings, answered=now)


def diagnose(seen: Snapshot, now: float, signalled: bool, overdue: float | None) -> Verdict | None:
    """Which rank is lost, if any: the one that reported a failure or fell silent first, else one that hangs.

    Args:
        seen: what is known of the job.
        now: the time.
        signalled: whether a signal asked this rank to stop.
        overdue: for how many seconds the current step has been running, if that is too long.
    """
    if seen.reported is not None:
        return seen.reported
    limit = LIMIT_AFTER_SIGNAL_SECONDS if signalled else LIMIT_SECONDS
    if now - seen.answered > limit:
        holder = seen.ranks[0]
        message = f"{holder}, which holds the job's store, has not answered for {limit:.0f} s"
        return Verdict(0, Kind.SILENT, message)
    return _silent(seen, now, limit) or _hanging(seen, now, overdue)


def _silent(seen: Snapshot, now: float, limit: float) -> Verdict | None:
    others = [
        (sighting.at, rank)
        for rank, sighting in enumerate(seen.sightings)
        if rank != seen.own and sighting.beat != DONE
    ]
    at, rank = min(others, default=(now, seen.own))
    if now - at <= limit:
        return None
    silent = f"{seen.ranks[rank]} has given no sign of life for {now - at:.0f} s"
    return Verdict(rank, Kind.SILENT, f"{silent}: it was killed or stopped, or its host is gone")


def _hanging(seen: Snapshot, now: float, overdue: float | None) -> Verdict | None:
    standings = [sighting.standing for sighting in seen.sightings]
    rank = None if overdue is None else hanging_rank(standings, now)
    if rank is None:
        return None
    own = standings[rank]
    if own.at.waits:
        where = f"it has waited in {own.at.line} for {now - own.since:.0f} s, longer than any other rank"
    else:
        waiting = sum(standing.at.waits for standing in standings)
        where = f"it is at work in {own.at.line}, while {waiting} of {len(standings)} ranks wait"
    message = f"{seen.ranks[rank]} hangs: an optimizer step has taken {overdue:.0f} s, and {where}"
    return Verdict(rank, Kind.HANGS, message)
