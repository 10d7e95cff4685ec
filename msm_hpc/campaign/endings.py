"""Why an attempt ended, and whether its job runs again by itself."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile

from msm_hpc.base.errors import DivergedError, RankLostError, ServerLostError, StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.campaign.step_inputs import UpstreamMissingError
from msm_hpc.launch.causes import RULES, Cause, Finding, in_words
from msm_hpc.launch.job import current_job, current_node
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.store.folder import LeaseHeldError
from msm_hpc.store.records import Attempt, now

KEPT = "finished steps are kept, a training resumes from where it has saved, any other step is made again"
PAUSE_SECONDS = 300.0
"""Before the third start in a row that may save nothing, doubled for each one after it. It is longer than Slurm itself
lets a requeued job wait, two minutes, for the credential of its last start to expire."""
LONGEST_PAUSE_SECONDS = 3600.0
_BY_CLASS: tuple[tuple[type[BaseException], Cause], ...] = (
    (UpstreamMissingError, "upstream"),
    (LeaseHeldError, "superseded"),
    (KeyboardInterrupt, "cancelled"),
    (SystemExit, "cancelled"),
    (DivergedError, "nan"),
    (UserError, "user"),
)
"""The first that an error is an instance of."""


def finding_of(error: BaseException | None) -> Finding:
    """Why an attempt ended with ``error``, and what shows that."""
    if error is None:
        return Finding("done", "")
    if isinstance(error, StoppedBySignalError):
        job = current_job()
        return launcher_of_job(job).why_stopped(job, error.signal)
    if isinstance(error, RankLostError):
        return _of_lost_rank(error)
    if isinstance(error, ServerLostError):
        found = in_words(str(error).splitlines())
        return found if found and found.cause == "oom" else Finding("server lost", str(error))
    cause = next((cause for kind, cause in _BY_CLASS if isinstance(error, kind)), None)
    if cause or _disk_refuses(error):
        return Finding(cause or "user", _raised(error))
    found = in_words(_said(error).splitlines())
    if found and found.cause == "oom":
        return Finding("oom", _raised(error))
    if found and found.cause == "node":  # a GPU of this node, by what CUDA says
        return Finding("node", found.evidence, (current_node(),))
    return Finding("code", _raised(error))


def _of_lost_rank(error: RankLostError) -> Finding:
    """By what the rank reported of its own error, else by what the cluster says of its node."""
    found = in_words(str(error).splitlines())
    if found and found.cause in ("oom", "nan"):
        return found
    down = launcher_of_job(current_job()).down([error.host]) if error.host else {}
    if down:
        return Finding("node", "; ".join(down.values()), tuple(down))
    return Finding("rank lost", str(error))


def _raised(error: BaseException) -> str:
    """``OutOfMemoryError raised at step.py:77, in train_step``."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}, in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__} raised{where}"


def ended(attempt: Attempt, error: BaseException | None, found: Finding) -> Attempt:
    """The record of an attempt that ends with ``error`` for the cause that was ``found``."""
    return replace(
        attempt,
        end=now(),
        cause=found.cause,
        message=_message(error),
        evidence=found.evidence,
        progressed=error.progressed if isinstance(error, StoppedBySignalError) else None,
    )


def given_up(record: Attempt, before: Sequence[Attempt]) -> Attempt:
    """The record of an attempt whose job does not run again, with the reason where that is how often it was tried."""
    rule, times = RULES.get(record.cause) if record.cause else None, in_a_row(record, before)
    if rule is None or not rule.starts or times < rule.starts:
        return record
    stuck = (
        f"it ended by {record.cause} {times} times in a row with nothing more saved, so its job is not put back into "
        f"the queue: {rule.advice}"
    )
    return replace(record, message=f"{record.message}; {stuck}")


def runs_again(record: Attempt, before: Sequence[Attempt], resumable: bool, late: bool = False) -> bool:
    """Whether the job of an attempt that ended is to run again: only for what is no fault of the work, and bounded.

    One that saved more gets further. After the time limit a stage that cannot resume would only meet it again; one
    that began ``late``, since its job made other steps before it, has the whole of the job's time then.
    """
    rule = RULES.get(record.cause) if record.cause else None
    if rule is None or not rule.starts:
        return False
    if record.cause == "timeout" and (late or not resumable):
        return late
    return in_a_row(record, before) < rule.starts


def pause_before(record: Attempt, before: Sequence[Attempt]) -> float:
    """How many seconds the job waits before it runs again: none at first, then longer and longer."""
    times = in_a_row(record, before)
    return min(PAUSE_SECONDS * 2 ** (times - 2), LONGEST_PAUSE_SECONDS) if times > 1 else 0.0


def in_a_row(record: Attempt, before: Sequence[Attempt]) -> int:
    """How many attempts, up to this one, ended for its cause and had saved nothing more."""
    alike = takewhile(lambda each: each.cause == record.cause and not each.progressed, [record, *reversed(before)])
    return sum(1 for _ in alike)


def _message(error: BaseException | None) -> str | None:
    """What to show: a message written for users as it is, any other with the name of its exception."""
    if error is None:
        return None
    if isinstance(error, UserError | StoppedBySignalError | RankLostError | ServerLostError):
        return str(error)
    if _disk_refuses(error):
        return f"{_said(error)}: free space or fix the permissions there, and run `msm run` again: {KEPT}"
    return _said(error)


def _said(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _disk_refuses(error: BaseException) -> bool:
    """Whether a disk is full or may not be written to."""
    return isinstance(error, OSError) and error.errno in CANNOT_WRITE
