"""Ends the whole job within about a minute when a rank dies, stops or hangs, and names that rank.

Ranks wait for each other in collectives, so one that is gone leaves the others waiting: NCCL reports nothing, and gloo
reports to each rank that *some* neighbour closed its connection, which soon is true of every neighbour. Therefore a
thread in each rank counts up a key of its own in the job's store (a *beat*) and looks at the keys of the others, on its
own clock. The first whose key stands still is the one that was lost::

    rank 0 beats 41 42 43 44 ...     42 .. 44: rank 1 is behind, but it was seen 10 s ago
    rank 1 beats 41 41 41 41         ... 60 s: rank 1 is lost

The main thread may be in a slow step, a long write or loading weights: the thread keeps beating. It does not beat in a
process that is dead, stopped (SIGSTOP) or cut off. A rank that is alive, beats and yet never comes where the others
wait for it is found by :mod:`msm_hpc.training.watch.hangs`: a beat carries the line that the main thread is at.

Three threads take part. The beat thread writes what it sees into a :class:`~.diagnosis.Snapshot`, the guard thread and
the main thread read it; a snapshot never changes, but is replaced, under a lock.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from msm_hpc.base.abort import abort
from msm_hpc.base.errors import RankLostError, StoppedBySignalError
from msm_hpc.base.stopping import StopRequest
from msm_hpc.training.watch import diagnosis
from msm_hpc.training.watch.diagnosis import DONE, Kind, RankProcess, Sighting, Snapshot, Verdict, diagnose
from msm_hpc.training.watch.hangs import Standing, StepTimer, main_thread_line, main_thread_stack

BEAT_SECONDS = 5.0
# Rank 0 records how the job ends. The others give it time for that: their end may have it killed.
GRACE_SECONDS = 5.0
GRACE_OTHERS_SECONDS = 15.0
_FAILURE = "first_failure"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def watched(request: StopRequest) -> Iterator[StepTimer]:
    """Watch the other ranks while this is open, and let them watch this one; every rank opens and closes it.

    Yields the timer in which every step is to run, so that one that takes too long is noticed.

    Needs the process groups. Where the main thread is stuck in a collective, the process is ended through
    :func:`msm_hpc.base.abort.abort`. A lost rank on this host is killed: it may be stopped, and would keep the job
    alive.

    Raises:
        RankLostError: an exception of a collective came out of the block, and another rank is the reason.
    """
    if distributed.get_world_size() == 1:
        yield StepTimer()
        return
    watchdog = _Watchdog(request)
    try:
        yield watchdog.timer
    except Exception as error:  # broad: whatever this rank fails of is reported to the others; raised again
        watchdog.explain(error)
        raise
    else:
        watchdog.finish()
    finally:
        watchdog.stop()


class _Watchdog:
    def __init__(self, request: StopRequest) -> None:
        process = psutil.Process()
        own = RankProcess(distributed.get_rank(), socket.gethostname(), process.pid, process.create_time())
        self._request = request
        self.timer = StepTimer()
        self._stop = threading.Event()
        # A connection of its own: that of the process group is locked while the main thread waits in it.
        self._store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
        ranks = [own] * distributed.get_world_size()
        distributed.all_gather_object(ranks, own)
        self._keys = [f"msm_hpc/beat/{each.rank}" for each in ranks]
        self._store.set(self._keys[own.rank], f"0 {main_thread_line()}")
        distributed.barrier()
        now = time.monotonic()
        first = Sighting(b"", now, Standing(main_thread_line(), now))
        self._lock = threading.Lock()
        self._seen = Snapshot(own.rank, tuple(ranks), (first,) * len(ranks), now)
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._beat, self._guard)]
        for thread in self._threads:
            thread.start()

    def _replace(self, change: Callable[[Snapshot], Snapshot]) -> None:
        with self._lock:
            self._seen = change(self._seen)

    def _verdict(self, now: float) -> Verdict | None:
        return diagnose(self._seen, now, self._request.received != 0, self.timer.overdue(now))

    def _act(self, verdict: Verdict) -> RankLostError:
        """Kill a silent rank and report one that hangs; the error to end this rank with.

        Several ranks may find one that hangs, not all the same; all end with the first that was reported.
        """
        if verdict.kind is Kind.SILENT:
            _kill(self._seen.ranks[verdict.rank])
        if verdict.kind is Kind.HANGS:
            verdict = self._report(verdict)
        return RankLostError(verdict.message, verdict.rank, self._seen.ranks[verdict.rank].host)

    def _report(self, verdict: Verdict) -> Verdict:
        """Put ``verdict`` into the store, for all ranks to read; returns the first that was put there."""
        first = f"{verdict.rank} {verdict.message}"
        with contextlib.suppress(distributed.DistError):
            first = self._store.compare_set(_FAILURE, "", first).decode()
        reported = _read_report(first)
        self._replace(lambda seen: replace(seen, reported=reported))
        return reported

    # -- the two threads -----------------------------------------------------------------------------

    def _beat(self) -> None:
        """Show that this rank is alive, and look at the others; blocks, or ends, if the store does not answer."""
        beats = 0
        with contextlib.suppress(distributed.DistError):
            while not self._stop.wait(BEAT_SECONDS):
                beats += 1
                self._store.set(self._keys[self._seen.own], f"{beats} {main_thread_line()}")
                found = self._store.multi_get(self._keys)
                report = self._store.get(_FAILURE).decode() if self._store.check([_FAILURE]) else None
                self._note(found, report, time.monotonic())

    def _note(self, beats: list[bytes], report: str | None, now: float) -> None:
        def change(seen: Snapshot) -> Snapshot:
            reported = seen.reported or (_read_report(report) if report else None)
            return replace(seen.heard(beats, now), reported=reported)

        self._replace(change)

    def _guard(self) -> None:
        """End the process when a rank is lost and the main thread does not notice."""
        looked = time.monotonic()
        while not self._stop.wait(BEAT_SECONDS / 5):
            now = time.monotonic()
            if now - looked > BEAT_SECONDS:  # this process itself was stopped, perhaps with all the others
                self._restart(now)
            looked = now
            verdict = self._verdict(now)
            if verdict is None:
                continue
            error = self._act(verdict)
            if self.timer.is_long(now):  # logged at once: as soon as one rank has ended, the others may be killed
                log.error("%s. This rank stands in\n%s", error, main_thread_stack())
            if not self._stop.wait(GRACE_OTHERS_SECONDS if self._seen.own else GRACE_SECONDS):
                abort(error)

    def _restart(self, now: float) -> None:
        self._replace(lambda seen: seen.restarted(now))
        self.timer.restart(now)

    # -- the main thread -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Show that this rank ends because it is done."""
        self._stop.set()
        with contextlib.suppress(distributed.DistError):
            self._store.set(self._keys[self._seen.own], DONE.decode())

    def stop(self) -> None:
        """End the threads, without waiting for a store that does not answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=1)

    def explain(self, error: Exception) -> None:
        """Report ``error`` to the others, or raise the loss of a rank that caused it; a stop by signal is no error.

        Raises:
            RankLostError: ``error`` is of a collective, and another rank is the reason.
        """
        if isinstance(error, StoppedBySignalError):
            self.finish()
        elif _of_a_collective(error):
            log.warning("a collective failed (%s); looking for the rank that caused it", error)
            end = time.monotonic() + diagnosis.LIMIT_SECONDS + 2 * BEAT_SECONDS
            while time.monotonic() < end:
                if verdict := self._verdict(time.monotonic()):
                    raise self._act(verdict) from error
                time.sleep(BEAT_SECONDS / 5)
        else:
            own = self._seen.ranks[self._seen.own]
            text = f"{own.rank} {own} failed first: {type(error).__name__}: {error}"
            with contextlib.suppress(distributed.DistError):
                self._store.compare_set(_FAILURE, "", text)


def _read_report(text: str) -> Verdict:
    """What the store holds: the number of the rank, and what happened to it."""
    number, _, message = text.partition(" ")
    return Verdict(int(number), Kind.REPORTED, message)


def _of_a_collective(error: Exception) -> bool:
    if isinstance(error, distributed.DistError):
        return True
    return type(error) is RuntimeError and re.search(r"gloo|NCCL|[Cc]onnection", str(error)) is not None


def _kill(rank: RankProcess) -> None:
    """Kill a lost rank if it is a process of this host."""
    if rank.host != socket.gethostname():
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(rank.pid)
        if process.create_time() == rank.started:
            process.kill()
