"""Inside a job: take the next attempt at a step, hold it, and record how it ends.

Rank 0 takes the attempt, and what it takes all ranks follow: its output folder appears when everything is ready, and
its record says for which start of the job. So the ranks of a node that was lost never follow the attempt of the same
job elsewhere, nor the other way round.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from signal import Signals

from msm_hpc.base.abort import abort, on_abort
from msm_hpc.base.code import code_commit
from msm_hpc.base.errors import RankLostError, UserError
from msm_hpc.base.stopping import StopRequest
from msm_hpc.base.watched import touching
from msm_hpc.campaign.endings import ended, finding_of, given_up, pause_before, runs_again
from msm_hpc.campaign.lost_nodes import record_losses, refuse_where_nodes_are_lost, report
from msm_hpc.graph.kinds import Kind
from msm_hpc.launch.allocation import current_allocation
from msm_hpc.launch.job import JobRef, current_job, current_start, is_elsewhere, same_job
from msm_hpc.launch.job_state import RUNNING, JobState
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.launch.several import MADE, current_log, marked
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.folder import LeaseHeldError, StepFolder
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import states_of
from msm_hpc.store.records import Attempt, Version, now
from msm_hpc.store.store import Store

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_FENCE_CHECKS = 30.0
SECONDS_TO_GET_READY = 3600.0
"""How long rank 0 may take to read and check the inputs, which may be terabytes."""


def take(folder: StepFolder, ranks: int, inputs: Mapping[str, Version]) -> AttemptFolder:
    """Take the next attempt at a step, which reads ``inputs``, and its lease.

    An attempt of the same Slurm job does not count as living: Slurm runs an id once, so that it is on a lost node.

    Raises:
        LeaseHeldError: another living job holds the step.
    """
    job, newest = current_job(), folder.newest()
    holders = [folder.lease(), _running(newest) if newest else None]
    others = [holder for holder in holders if holder is not None and not same_job(holder, job)]
    for holder, state in states_of(others, Journal(folder.root)).items():
        raise _held(folder, holder, state)
    attempt = Attempt(
        job=job,
        host=socket.gethostname(),
        ranks=ranks,
        commit=code_commit(),
        log=current_log(),
        start=now(),
        job_start=current_start(),
        inputs=inputs,
        allocation=current_allocation(),
    )
    own = folder.attempt(newest.number + 1 if newest else 1)
    if not own.take(attempt):
        raise _held(folder, own.read().job)
    folder.write_lease(job)
    return own


def prepare(folder: StepFolder, own: AttemptFolder, kind: Kind) -> None:
    """Let the output folder appear, with what earlier attempts saved; theirs are deleted if they have surely ended.

    What an attempt saved that read an input which was made again since is not brought over. Where Slurm cannot be asked
    about earlier attempts now, what they saved stays until the step is done.
    """
    earlier = [attempt for attempt in folder.attempt_folders() if attempt.number < own.number]
    refuse_where_nodes_are_lost(folder.root, earlier)
    if kind.resumable and not folder.read_record().shares:
        own.unready.mkdir()
        saved = [attempt for attempt in earlier if attempt.out.is_dir()]
        resumed = [attempt for attempt in saved if own.read_the_same(attempt)]
        if saved and not resumed:
            log.warning("an input was made again since the last attempt, so that this one starts from the beginning")
        carry_over = kind.load_carry_over()
        if resumed or not (whole := _of_the_whole(folder, own)):
            carry_over([attempt.out for attempt in resumed], own.unready)
        else:
            carry_over([attempt.out for attempt in whole.saved], own.unready, sharers=whole.shares)
    own.begin()
    try:
        over = _surely_ended(folder, earlier)
    except UserError as error:
        log.warning("what earlier attempts saved is kept for now: %s", error)
        return
    for attempt in over:
        attempt.discard()
    record_losses(earlier)


@dataclass(frozen=True)
class _Whole:
    """What attempts saved for a step that is made in so many ``shares`` now."""

    saved: Sequence[AttemptFolder]
    shares: int


def _of_the_whole(folder: StepFolder, own: AttemptFolder) -> _Whole | None:
    """What was saved for the nearest step that this one is a share of, if anything was."""
    record, shares = folder.record, 1
    while record is not None and record.share_of:
        whole = Store(folder.root).folder(record.share_of)
        record = whole.record
        shares *= max(len(record.shares), 1) if record else 1
        if saved := [each for each in whole.attempt_folders() if each.out.is_dir() and own.read_the_same(each)]:
            return _Whole(saved, shares)
    return None


def follow(folder: StepFolder, request: StopRequest) -> AttemptFolder | None:
    """On another rank: the attempt that rank 0 took in this start of the job, once it is ready; None if not needed.

    Raises:
        StoppedBySignalError: a signal came first.
        UserError: rank 0 failed first, or was not ready within an hour.
    """
    start, deadline = current_start(), time.monotonic() + SECONDS_TO_GET_READY
    while time.monotonic() < deadline:
        ours = next((each for each in reversed(folder.attempt_folders()) if each.read().job_start == start), None)
        if ours and ours.out.is_dir():
            return ours
        if folder.done:
            return None
        if ours and ours.read().end:
            raise UserError(f"{ours.path}: rank 0 ended before it began; its log says why")
        request.obey("while it waited for rank 0")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise UserError(f"{folder.path}: rank 0 did not begin within {SECONDS_TO_GET_READY:.0f} s; its log says why")


@contextlib.contextmanager
def recorded(folder: StepFolder, own: AttemptFolder, resumable: bool) -> Iterator[None]:
    """Record how the attempt ends; then requeue its job where that helps, or else drop the lease."""
    before = [attempt.read() for attempt in folder.attempt_folders() if attempt.number < own.number]

    def end(error: BaseException | None) -> None:
        found = finding_of(error)
        record = ended(own.read(), error, found)
        again = runs_again(record, before, resumable, late=marked(MADE))
        record = record if again else given_up(record, before)
        try:
            own.write(record)
            report(folder.root, found.nodes, found.evidence)
        except OSError as reason:  # a full disk: the lease is to be dropped all the same
            log.error("the end of this attempt (%s: %s) could not be written: %s", record.cause, record.message, reason)
        if not folder.holds(own):  # the lease, and the job of this id, are those of a newer attempt
            return
        if again and launcher_of_job(record.job).requeue(record.job, pause_before(record, before), found.nodes):
            return
        holder = folder.lease()
        if holder is not None and same_job(holder, record.job):
            folder.drop_lease()

    with _ending(end), _ends_when_superseded(folder, own), _showing_life(folder):
        try:
            yield
        except Exception:  # broad: it may have failed because a newer attempt deleted its output; raised again
            folder.check_holds(own)
            raise


def _showing_life(folder: StepFolder) -> AbstractContextManager[None]:
    """Touch the lease of a local job, which other hosts cannot ask about; of one of Slurm, Slurm tells."""
    job = current_job()
    return touching(lambda: folder.touch_lease(job)) if job.launcher == "local" else contextlib.nullcontext()


def record_killed(folder: StepFolder, number: Signals) -> None:
    """Record the end of an attempt whose process was killed, from the process that had started it."""
    own = folder.newest()
    if own is None:
        return
    record = own.read()
    ours = record.job_start == current_start() and same_job(record.job, current_job())
    if ours and record.end is None:
        own.write(replace(record, end=now(), message=f"{number.name} killed its process"))


@contextlib.contextmanager
def witness(folder: StepFolder, own: AttemptFolder) -> Iterator[None]:
    """What another rank does for the attempt: it writes how it ended if rank 0 was lost."""

    def end(error: BaseException | None) -> None:
        record = own.read()
        if isinstance(error, RankLostError) and error.rank == 0 and record.end is None:
            found = finding_of(error)
            own.write(ended(record, error, found))
            report(folder.root, found.nodes, found.evidence)

    with _ending(end):
        yield


def _running(newest: AttemptFolder) -> JobRef | None:
    """The job of an attempt that has not ended; a process elsewhere cannot be asked about, and the lease tells."""
    attempt = newest.read()
    unknown = attempt.job.launcher == "local" and is_elsewhere(attempt.job)
    return None if attempt.end is not None or unknown else attempt.job


def _surely_ended(folder: StepFolder, attempts: Sequence[AttemptFolder]) -> list[AttemptFolder]:
    """Those that recorded their end, or whose job is gone; not those of this very job, on a node that may be lost."""
    job, records = current_job(), {attempt: attempt.read() for attempt in attempts}
    others = {each: at.job for each, at in records.items() if at.end is None and not same_job(at.job, job)}
    alive = states_of(others.values(), Journal(folder.root))
    return [each for each, at in records.items() if at.end or (each in others and at.job not in alive)]


def _held(folder: StepFolder, holder: JobRef, state: JobState = RUNNING) -> LeaseHeldError:
    gone = ""
    if holder.launcher == "local":
        gone = f", or if that host is gone, delete {folder.lease_file}"
    elif state.word == "unknown":
        journal = Journal(folder.root)
        gone = f". {state.reason}; if it is gone and left no record: {journal.forget(journal.of([holder]))}"
    return LeaseHeldError(
        f"{'/'.join(folder.path.parts[-2:])} is running in {holder.launcher} job {holder.id} "
        f"{holder.host and 'on ' + holder.host}; wait for it{gone}"
    )


@contextlib.contextmanager
def _ending(end: Callable[[BaseException | None], None]) -> Iterator[None]:
    """Call ``end`` with what ends the block: an exception, None, or the error that the process is aborted for."""
    try:
        with on_abort(end):
            yield
    except BaseException as error:  # broad: however the attempt ends, Ctrl-C too, its end is recorded; raised again
        rank, host = current_ranks().rank, socket.gethostname()
        log.error("rank %d on %s ends with %s: %s", rank, host, type(error).__name__, error)  # which has the time
        end(error)
        raise
    end(None)


@contextlib.contextmanager
def _ends_when_superseded(folder: StepFolder, own: AttemptFolder) -> Iterator[None]:
    """While this is open, the process ends soon after a newer attempt has taken the step over."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_FENCE_CHECKS):
            with contextlib.suppress(OSError):  # a file server that is away for a while
                try:
                    folder.check_holds(own)
                except LeaseHeldError as error:
                    abort(error)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()
