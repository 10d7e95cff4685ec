"""Inside a job: make one step, and leave a record of how that went.

Every rank of the job calls :func:`run_step`. Rank 0 alone holds the lease, records the attempt and publishes the
result; the other ranks only run the stage, and say how the attempt ended if rank 0 was lost.

A stage that a signal stopped has saved its work. Before the time limit and at preemption the job is then put back into
Slurm's queue, unless it got no further than the time before; on this machine the next ``msm run`` resumes it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from signal import SIGINT, SIGTERM
from typing import NoReturn

from submitit.core.utils import UncompletedJobError

from msm_hpc.base.abort import on_abort
from msm_hpc.base.code import code_commit
from msm_hpc.base.errors import RankLostError, StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.base.progress import FILE as PROGRESS_FILE
from msm_hpc.campaign.external_inputs import identity_of, stamp_of
from msm_hpc.graph.kinds import KINDS
from msm_hpc.launch.job import JobRef, current_job, current_log
from msm_hpc.launch.launcher import launcher_of_job, living
from msm_hpc.launch.local_processes import ends_the_job, stop_when_orphaned
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Attempt, Cause, Record, flat, now
from msm_hpc.store.store import Store

log = logging.getLogger(__name__)


class UpstreamMissingError(UserError):
    """An input of the step is not there, because the step that makes it failed or never ran."""


class LeaseHeldError(UserError):
    """Another living job is making the step."""


def run_step(root: str, step_id: str) -> None:
    """Make the step ``step_id`` of the store at ``root``, unless it is done.

    Raises:
        UpstreamMissingError: an input is missing.
        LeaseHeldError: another living job is making it.
        UserError: a file the step reads from outside has changed, or what the stage itself refuses.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ranks = current_ranks()
    os.environ.update(ranks.environment() if ranks.world_size > 1 else {})
    store = Store(Path(root))
    folder = store.folder(step_id)
    if folder.done:
        log.info("%s is done already", step_id)
        return
    record = folder.read_record()
    stop_when_orphaned(SIGTERM if KINDS[record.kind].resumable else SIGINT)
    if ranks.rank > 0:
        with _witness(folder):
            _run_stage(store, folder, record)
        return
    with ends_the_job():
        _take_lease(folder, step_id)
    with _recorded(folder, ranks.world_size), ends_the_job():  # in this order: the lease is held until they are gone
        folder.start_partial(keep=KINDS[record.kind].resumable)
        _run_stage(store, folder, record)
        (folder.partial / PROGRESS_FILE).unlink(missing_ok=True)
        _check_lease(folder, step_id)
        folder.publish()


def _run_stage(store: Store, folder: StepFolder, record: Record) -> None:
    """Run the stage into ``out.partial``; what allows missing inputs is made of the others, aside, and not done."""
    kind, before = KINDS[record.kind], _stamps(record)
    log.info("%s starts in %s", record.name, folder.path)
    if record.shares:
        assert kind.gather_inputs is not None
        made = _Inputs(store)
        shares = tuple(made.find(share, "") for share in record.shares)
        made.refuse_missing()
        kind.load_gather()(record.typed_config(), kind.gather_inputs(shares=shares), folder.partial)
        return
    found = _Inputs(store)
    roles = found.by_role(record)
    if found.missing and kind.missing_inputs_allowed:
        aside = store.unfinished(record.name)
        aside.mkdir(parents=True, exist_ok=True)
        kind.load()(record.typed_config(), kind.inputs(**roles), aside)
    found.refuse_missing()
    kind.load()(record.typed_config(), kind.inputs(**roles), folder.partial)
    after = _stamps(record)
    if changed := [str(path) for path in before if after[path] != before[path]]:
        raise UserError(
            f"{', '.join(changed)} changed while {record.name} read it, so that its result may mix both; leave it "
            "alone and run `msm run` again"
        )


class _Inputs:
    """Finds where the inputs of a step lie, and notes those that are not made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.missing: list[str] = []

    def by_role(self, record: Record) -> dict[str, Path | dict[str, Path]]:
        """Where each input lies, without those that are not made."""
        roles: dict[str, Path | dict[str, Path]] = {}
        for role, given in record.inputs.items():
            identities = record.identities[role]
            if isinstance(given, str):
                assert isinstance(identities, str)
                found = {role: self.find(given, identities)}
                roles |= {name: path for name, path in found.items() if path}
            else:
                assert not isinstance(identities, str)
                several = {name: self.find(each, identities[name]) for name, each in given.items()}
                roles[role] = {name: path for name, path in several.items() if path}
        return roles

    def find(self, source: str, identity: str) -> Path | None:
        """The output folder of a step, or a file from outside that has not changed."""
        if Path(source).is_absolute():
            return _unchanged(Path(source), identity)
        folder = self._store.folder(source)
        if not folder.done:
            self.missing.append(source)
            return None
        folder.check_sizes()
        return folder.out

    def refuse_missing(self) -> None:
        """Refuse to go on without the inputs that are not made.

        Raises:
            UpstreamMissingError: there are some.
        """
        if self.missing:
            raise UpstreamMissingError(f"make its inputs first: {', '.join(self.missing)}")


def _stamps(record: Record) -> dict[Path, str | None]:
    """What each file from outside is known by without reading it; None where it is gone."""
    files = [Path(source) for source in flat(record.inputs).values() if Path(source).is_absolute()]
    return {file: stamp_of(file) if file.exists() else None for file in files}


def _unchanged(path: Path, identity: str) -> Path:
    if not path.exists():
        raise UserError(f"{path} is gone since the campaign was planned; put it back, or run `msm run` again")
    if identity_of(path) != identity:
        raise UserError(f"{path} changed since the campaign was planned; run `msm run` again to use the new content")
    return path


def _take_lease(folder: StepFolder, step_id: str) -> None:
    holder, job = folder.lease(), current_job()
    if holder is not None and _same(holder, job):  # written at submission
        folder.write_lease(job)
    elif (holder is not None and living([holder])) or not folder.claim(job, dead=holder):
        _refuse(folder, step_id)


def _check_lease(folder: StepFolder, step_id: str) -> None:
    holder = folder.lease()
    if holder is None or not _same(holder, current_job()):
        _refuse(folder, step_id)


def _same(one: JobRef, other: JobRef) -> bool:
    return (one.launcher, one.id) == (other.launcher, other.id)


def _refuse(folder: StepFolder, step_id: str) -> NoReturn:
    holder = folder.lease()
    if holder is None:
        raise LeaseHeldError(f"{step_id} was running in another job, which has just ended; run `msm run` again")
    raise LeaseHeldError(
        f"{step_id} is running in {holder.launcher} job {holder.id} {holder.host and 'on ' + holder.host}; wait for "
        f"it, or if that host is gone, delete {folder.lease_file}"
    )


@contextlib.contextmanager
def _recorded(folder: StepFolder, ranks: int) -> Iterator[None]:
    """Rank 0's attempt: its file is written at the start, and at the end with the cause."""
    number = len(folder.attempts()) + 1
    attempt = Attempt(
        job=current_job(),
        host=socket.gethostname(),
        ranks=ranks,
        commit=code_commit(),
        log=current_log(),
        start=now(),
    )
    folder.write_attempt(number, attempt)

    def end(error: BaseException | None) -> None:
        ended = _ended(attempt, error)
        try:
            folder.write_attempt(number, ended)
        except OSError as reason:  # a full disk: the lease is to be dropped all the same
            log.error("the end of this attempt (%s: %s) could not be written: %s", ended.cause, ended.message, reason)
        if _runs_again(error, ended.cause) and launcher_of_job(ended.job).requeue(ended.job):
            return
        holder = folder.lease()
        if holder is not None and _same(holder, ended.job):
            folder.drop_lease()

    with _ending(end):
        yield


@contextlib.contextmanager
def _witness(folder: StepFolder) -> Iterator[None]:
    """What another rank does for the attempt: it writes how it ended if rank 0 was lost."""

    def end(error: BaseException | None) -> None:
        attempts = folder.attempts()
        if isinstance(error, RankLostError) and error.rank == 0 and attempts and attempts[-1].end is None:
            folder.write_attempt(len(attempts), _ended(attempts[-1], error))

    with _ending(end):
        yield


@contextlib.contextmanager
def _ending(end: Callable[[BaseException | None], None]) -> Iterator[None]:
    """Call ``end`` with what ends the block: an exception, None, or the error that the process is aborted for."""
    try:
        with on_abort(end):
            yield
    except BaseException as error:  # broad: however the attempt ends, Ctrl-C too, its end is recorded; raised again
        end(error)
        raise
    end(None)


def _ended(attempt: Attempt, error: BaseException | None) -> Attempt:
    return replace(attempt, end=now(), cause=cause_of(error), message=_message(error))


def _runs_again(error: BaseException | None, cause: Cause | None) -> bool:
    """Whether to run again of itself what a signal stopped; not where the time limit is too short to get anywhere."""
    if not isinstance(error, StoppedBySignalError):
        return False
    return cause == "preempted" or (cause == "timeout" and error.progressed)


def _message(error: BaseException | None) -> str | None:
    """What to show: a message written for users as it is, any other with the name of its exception."""
    if error is None:
        return None
    if isinstance(error, UserError | StoppedBySignalError | RankLostError):
        return str(error)
    said = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return f"{said}: free space or fix the permissions there, and run `msm run` again: what is complete is kept"
    return said


def cause_of(error: BaseException | None) -> Cause:
    """Why an attempt ended."""
    if error is None:
        return "done"
    if isinstance(error, UpstreamMissingError):
        return "upstream"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "cancelled"
    if isinstance(error, UncompletedJobError):  # submitit's, on Slurm's signal before the time limit
        return "timeout"
    if isinstance(error, StoppedBySignalError):
        job = current_job()
        return launcher_of_job(job).why_stopped(job, error.signal)
    if isinstance(error, RankLostError):
        return "rank lost"
    return "user" if _explained(error) else "code"


def _explained(error: BaseException) -> bool:
    """Whether the error's message says it all: one of ours, or a disk that is full or may not be written to."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in CANNOT_WRITE)
