"""Inside a job: make one step, and leave a record of how that went.

Every rank of the job calls :func:`run_step`. Rank 0 alone holds the lease, records the attempt and publishes the
result; the other ranks only run the stage.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from submitit.core.utils import UncompletedJobError

from msm_hpc.campaign.kinds import KINDS
from msm_hpc.campaign.steps import File
from msm_hpc.campaign.store import Attempt, Cause, Record, StepFolder, Store, now
from msm_hpc.errors import UserError
from msm_hpc.launch.jobs import JobRef, current_job, current_log, current_ranks, living
from msm_hpc.progress import FILE as PROGRESS_FILE
from tokenization.errors import BadInput

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
    if ranks.rank > 0:
        _run_stage(store, folder, record)
        return
    _take_lease(folder, step_id)
    with _Recorded(folder, ranks.world_size):
        folder.start_partial(keep=KINDS[record.kind].resumable)
        _run_stage(store, folder, record)
        (folder.partial / PROGRESS_FILE).unlink(missing_ok=True)
        _check_lease(folder, step_id)
        folder.publish()


def _run_stage(store: Store, folder: StepFolder, record: Record) -> None:
    """Run the stage into ``out.partial``; what allows missing inputs is made of the others, aside, and not done."""
    kind = KINDS[record.kind]
    inputs = _inputs(store, record)
    missing = sorted(set(record.inputs) - set(inputs))
    log.info("%s starts in %s", record.name, folder.path)
    if not missing:
        kind.load()(record.typed_config(), inputs, folder.partial)
        return
    if kind.missing_inputs_allowed:
        kind.load()(record.typed_config(), inputs, store.unfinished(record.name))
    raise UpstreamMissingError(f"make its inputs first: {', '.join(record.inputs[role] for role in missing)}")


def _inputs(store: Store, record: Record) -> Mapping[str, Path]:
    """Where each input lies, without those that are not made."""
    found = {}
    for role, source in record.inputs.items():
        if Path(source).is_absolute():
            found[role] = _unchanged(Path(source), record.identities[role])
        elif store.folder(source).done:
            store.folder(source).check_sizes()
            found[role] = store.folder(source).out
    return found


def _unchanged(path: Path, identity: str) -> Path:
    if not path.exists():
        raise UserError(f"{path} is gone since the campaign was planned; put it back, or run `msm run` again")
    if File(path).identity != identity:
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
    return (one.executor, one.id) == (other.executor, other.id)


def _refuse(folder: StepFolder, step_id: str) -> NoReturn:
    holder = folder.lease() or JobRef("local", "(just ended)")
    raise LeaseHeldError(
        f"{step_id} is being made by {holder.executor} job {holder.id} {holder.host and 'on ' + holder.host}; wait for "
        f"it, or if that host is gone, delete {folder.lease_file}"
    )


class _Recorded:
    """The attempt's file, written at the start, and at the end with the cause."""

    def __init__(self, folder: StepFolder, ranks: int) -> None:
        self._folder = folder
        self._number = len(folder.attempts()) + 1
        self._attempt = Attempt(
            job=current_job(),
            host=socket.gethostname(),
            ranks=ranks,
            commit=code_commit(),
            log=current_log(),
            start=now(),
        )

    def __enter__(self) -> Self:
        self._folder.write_attempt(self._number, self._attempt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = replace(self._attempt, end=now(), cause=cause_of(error), message=_message(error))
        self._folder.write_attempt(self._number, ended)
        holder = self._folder.lease()
        if holder is not None and _same(holder, ended.job):
            self._folder.drop_lease()


def _message(error: BaseException | None) -> str | None:
    """What to show: a message written for users as it is, any other with the name of its exception."""
    if error is None:
        return None
    if isinstance(error, UserError | BadInput):
        return str(error)
    return "".join(traceback.format_exception_only(error)).strip()


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
    return "code"


def code_commit() -> str | None:
    """The commit of the running code, marked ``-dirty`` where it was changed since; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
