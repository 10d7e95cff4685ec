"""Why an attempt ended, and whether its job runs again of itself."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace

from msm_hpc.base.errors import RankLostError, StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.campaign.step_inputs import UpstreamMissingError
from msm_hpc.launch.job import current_job
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.store.folder import LeaseHeldError
from msm_hpc.store.records import Attempt, Cause, now

TOO_SHORT = (
    "the time limit came twice before anything more was saved, so the job is not put back into the queue: raise "
    "time_minutes of its class in cluster.resources, and run `msm run` again"
)

KEPT = "finished steps are kept, a training resumes from where it has saved, any other step is made again"


def ended(attempt: Attempt, error: BaseException | None, before: Sequence[Attempt] = ()) -> Attempt:
    """The record of an attempt that ends with ``error``, after those ``before``."""
    progressed = error.progressed if isinstance(error, StoppedBySignalError) else None
    record = replace(attempt, end=now(), cause=cause_of(error), message=_message(error), progressed=progressed)
    stuck = _saved_nothing(record) and _saved_nothing(*before[-1:])
    return replace(record, message=f"{record.message}; {TOO_SHORT}") if stuck else record


def runs_again(record: Attempt, before: Sequence[Attempt], resumable: bool, late: bool = False) -> bool:
    """Whether what a signal stopped is to run again: after the time limit only if it may get further then.

    One that began ``late``, since its job made other steps before it, has the whole of the job's time then.
    """
    if record.progressed is None or record.cause not in ("preempted", "timeout"):
        return False
    return late or not _saved_nothing(record) or (resumable and not _saved_nothing(*before[-1:]))


def _saved_nothing(*last: Attempt) -> bool:
    """Whether the time limit came before the attempt, if there was one, had saved anything more."""
    return any(each.cause == "timeout" and each.progressed is False for each in last)


def _message(error: BaseException | None) -> str | None:
    """What to show: a message written for users as it is, any other with the name of its exception."""
    if error is None:
        return None
    if isinstance(error, UserError | StoppedBySignalError | RankLostError):
        return str(error)
    said = "".join(traceback.format_exception_only(error)).strip()
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        return f"{said}: free space or fix the permissions there, and run `msm run` again: {KEPT}"
    return said


def cause_of(error: BaseException | None) -> Cause:
    """Why an attempt ended."""
    if error is None:
        return "done"
    if isinstance(error, UpstreamMissingError):
        return "upstream"
    if isinstance(error, LeaseHeldError):
        return "superseded"
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "cancelled"
    if isinstance(error, StoppedBySignalError):
        job = current_job()
        return launcher_of_job(job).why_stopped(job, error.signal)
    if isinstance(error, RankLostError):
        return "rank lost"
    return "user" if _explained(error) else "code"


def _explained(error: BaseException) -> bool:
    """Whether the error's message says it all: one of ours, or a disk that is full or may not be written to."""
    return isinstance(error, UserError) or (isinstance(error, OSError) and error.errno in CANNOT_WRITE)
