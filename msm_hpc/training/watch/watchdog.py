"""A rank that dies, stops or hangs takes the whole job down within about a minute, and is named.

Ranks wait for each other in collectives, so one that is gone leaves the others waiting: NCCL tells nothing, and gloo
tells each rank that *some* neighbour closed its connection, which soon is true of every neighbour. Therefore a thread
in each rank counts up a key of its own in the job's store (a *beat*) and looks at the keys of the others, on its own
clock. The first whose key stands still is the one that was lost::

    rank 0 beats 41 42 43 44 ...     42 .. 44: rank 1 is behind, but it was seen 10 s ago
    rank 1 beats 41 41 41 41         ... 60 s: rank 1 is lost

The main thread may be in a slow step, a long write or the loading of weights: the thread beats on. It does not beat in
a process that is dead, stopped (SIGSTOP) or cut off. A rank that lives, beats and yet never comes where the others wait
for it is found by :mod:`msm_hpc.training.watch.hangs`: a beat carries the line that the main thread is in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from msm_hpc.base.abort import abort
from msm_hpc.base.errors import RankLostError, StoppedBySignalError
from msm_hpc.training.watch.hangs import Pace, Place, Stand, hanging, here, stack
from msm_hpc.training.watch.signals import StopRequest

BEAT_SECONDS = 5.0
LIMIT_SECONDS = 60.0
# Slurm kills 30 s after SIGTERM, which it also sends to the ranks that are left when one has died.
LIMIT_AFTER_SIGNAL_SECONDS = 15.0
# Rank 0 records how the job ends. The others give it time for that: their end may have it killed.
GRACE_SECONDS = 5.0
GRACE_OTHERS_SECONDS = 15.0
_DONE = b"done"
_FAILURE = "first_failure"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rank:
    """Which process a rank is; ``started`` is when, in seconds since the epoch."""

    rank: int
    host: str
    pid: int
    started: float

    def __str__(self) -> str:
        return f"rank {self.rank} (host {self.host}, process {self.pid})"


@contextlib.contextmanager
def watched(request: StopRequest) -> Iterator[Pace]:
    """Watch the other ranks while this is open, and let them watch this one; every rank opens and closes it.

    Gives what every step is to be run in, so that one that takes too long is noticed.

    Needs the process groups. Where the main thread is stuck in a collective, the process is ended through
    :func:`msm_hpc.base.abort.abort`. A lost rank on this host is killed: it may be stopped, and would keep the job
    alive.

    Raises:
        RankLostError: an exception of a collective came out of the block, and another rank is the reason.
    """
    if distributed.get_world_size() == 1:
        yield Pace()
        return
    watch = _Watch(request)
    try:
        yield watch.pace
    except Exception as error:  # broad: whatever this rank fails of, the others are told; raised again
        watch.explain(error)
        raise
    else:
        watch.finish()
    finally:
        watch.stop()


class _Watch:
    def __init__(self, request: StopRequest) -> None:
        process = psutil.Process()
        self._me = Rank(distributed.get_rank(), socket.gethostname(), process.pid, process.create_time())
        self._request = request
        self.pace = Pace()
        self._stop = threading.Event()
        # A connection of its own: that of the process group is locked while the main thread waits in it.
        self._store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        ranks: list[Rank] = [self._me] * distributed.get_world_size()
        distributed.all_gather_object(ranks, self._me)
        self._ranks = ranks
        self._store.set(self._key(self._me), f"0 {here()}")
        distributed.barrier()
        self._round = time.monotonic()
        self._heard = {rank: (b"", self._round) for rank in ranks}
        self._stands = {rank: Stand(here(), self._round) for rank in ranks}
        self._failure: RankLostError | None = None
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._beat, self._guard)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _key(rank: Rank) -> str:
        return f"msm_hpc/beat/{rank.rank}"

    # -- the two threads -----------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say that this rank lives and hear the others. Stands still, or ends, where the store does not answer."""
        beats = 0
        keys = [self._key(rank) for rank in self._ranks]
        with contextlib.suppress(distributed.DistError):
            while not self._stop.wait(BEAT_SECONDS):
                beats += 1
                self._store.set(keys[self._me.rank], f"{beats} {here()}")
                for rank, value in zip(self._ranks, self._store.multi_get(keys), strict=True):
                    if value != self._heard[rank][0]:
                        self._hear(rank, value, time.monotonic())
                if self._failure is None and self._store.check([_FAILURE]):
                    self._failure = _read_failure(self._store.get(_FAILURE).decode())
                self._round = time.monotonic()

    def _hear(self, rank: Rank, value: bytes, now: float) -> None:
        self._heard[rank] = (value, now)
        if value != _DONE:
            place = Place.read(value.decode().split(" ", 1)[1])
            self._stands[rank] = self._stands[rank].moved(place, now)

    def _guard(self) -> None:
        """End the process when a rank is lost and the main thread does not notice."""
        looked = time.monotonic()
        while not self._stop.wait(BEAT_SECONDS / 5):
            now = time.monotonic()
            if now - looked > BEAT_SECONDS:  # this process itself was stopped, perhaps with all the others
                self._forgive(now)
            looked = now
            reason = self._reason(now)
            if reason is None:
                continue
            if self.pace.slow(now):  # told at once: as soon as one rank has ended, the others may be killed
                log.error("%s. This rank stands in\n%s", reason, stack())
            if not self._stop.wait(GRACE_OTHERS_SECONDS if self._me.rank else GRACE_SECONDS):
                abort(reason)

    def _forgive(self, now: float) -> None:
        self._round = now
        self._heard = {rank: (value, now) for rank, (value, _) in self._heard.items()}
        self.pace.forgive(now)

    def _reason(self, now: float) -> RankLostError | None:
        """Which rank is lost, if any; the one that failed or fell silent first."""
        if self._failure is not None:
            return self._failure
        limit = LIMIT_AFTER_SIGNAL_SECONDS if self._request.received else LIMIT_SECONDS
        if now - self._round > limit:
            _end(self._ranks[0])
            return RankLostError(
                f"{self._ranks[0]}, which holds the job's store, has not answered for {limit:.0f} s", 0
            )
        others = [(at, rank) for rank, (value, at) in self._heard.items() if rank != self._me and value != _DONE]
        at, rank = min(others, key=lambda each: each[0], default=(now, self._me))
        if now - at <= limit:
            return self._hang(now)
        _end(rank)
        silent = f"{rank} has given no sign of life for {now - at:.0f} s"
        return RankLostError(f"{silent}: it was killed or stopped, or its host is gone", rank.rank)

    def _hang(self, now: float) -> RankLostError | None:
        """Which rank hangs, if the step that runs takes too long; all ranks are told of the first that is found."""
        seconds = self.pace.overdue(now)
        if seconds is None:
            return None
        found = hanging([self._stands[each] for each in self._ranks], now)
        if found is None:
            return None
        rank = self._ranks[found]
        said = f"{rank} hangs: an optimizer step has taken {seconds:.0f} s, and {self._told(rank, now)}"
        first = f"{rank.rank} {said}"
        with contextlib.suppress(distributed.DistError):
            first = self._store.compare_set(_FAILURE, "", first).decode()
        self._failure = _read_failure(first)
        return self._failure

    def _told(self, rank: Rank, now: float) -> str:
        own = self._stands[rank]
        if own.place.waits:
            return f"it has waited in {own.place.line} for {now - own.since:.0f} s, longer than any other rank"
        waiting = sum(stand.place.waits for stand in self._stands.values())
        return f"it is at work in {own.place.line}, while {waiting} of {len(self._ranks)} ranks wait"

    # -- the main thread -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Say that this rank leaves because it is done."""
        self._stop.set()
        with contextlib.suppress(distributed.DistError):
            self._store.set(self._key(self._me), _DONE.decode())

    def stop(self) -> None:
        """End the threads, without waiting for a store that does not answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=1)

    def explain(self, error: Exception) -> None:
        """Tell the others of ``error``, or raise what it follows from; leaves one of a signal alone.

        Raises:
            RankLostError: ``error`` is of a collective, and another rank is the reason.
        """
        if isinstance(error, StoppedBySignalError):
            self.finish()
        elif _of_a_collective(error):
            log.warning("a collective failed (%s); looking for the rank that caused it", error)
            end = time.monotonic() + LIMIT_SECONDS + 2 * BEAT_SECONDS
            while time.monotonic() < end:
                if reason := self._reason(time.monotonic()):
                    raise reason from error
                time.sleep(BEAT_SECONDS / 5)
        else:
            text = f"{self._me.rank} {self._me} failed first: {type(error).__name__}: {error}"
            with contextlib.suppress(distributed.DistError):
                self._store.compare_set(_FAILURE, "", text)


def _read_failure(text: str) -> RankLostError:
    """From what the store holds: the number of the rank, and what happened to it."""
    number, _, said = text.partition(" ")
    return RankLostError(said, int(number))


def _of_a_collective(error: Exception) -> bool:
    if isinstance(error, distributed.DistError):
        return True
    return type(error) is RuntimeError and re.search(r"gloo|NCCL|[Cc]onnection", str(error)) is not None


def _end(rank: Rank) -> None:
    """Kill a lost rank if it is a process of this host."""
    if rank.host != socket.gethostname():
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(rank.pid)
        if process.create_time() == rank.started:
            process.kill()
