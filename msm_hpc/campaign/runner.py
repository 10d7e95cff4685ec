"""Inside a job: make its steps one after another, and leave a record of how each went.

Every rank of the job calls :func:`run_steps`, which calls :func:`run_step` in a process for each step, forked from one
that has imported what most of them need and keeps the weights that they start from. So a step that runs out of memory,
or is aborted, takes no other with it; where it fails on one rank, that is no reason for the next step not to begin.
Rank 0 alone takes the attempt, checks the inputs, records and publishes; the other ranks only run the stage, and say
how the attempt ended if rank 0 was lost.

A stage that a signal stopped has saved its work. Before the time limit, at preemption and where a node is lost the job
is then put back into Slurm's queue, unless it gets no further; on this machine the next ``msm run`` resumes it. A stage
that can resume may be stopped at any time: a signal that comes while the job starts is noted, too.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals

from msm_hpc.base.errors import StoppedBySignalError, UserError
from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.base.stopping import StopRequest, noticed, obeyed_at_once
from msm_hpc.campaign.holding import follow, prepare, record_killed, recorded, take, witness
from msm_hpc.campaign.releasing import releasing
from msm_hpc.campaign.step_inputs import StepInputs, find_inputs
from msm_hpc.graph.kinds import KINDS
from msm_hpc.launch.allocation import memory_of_a_rank
from msm_hpc.launch.causes import OF_THE_WORK
from msm_hpc.launch.job import current_job, same_job
from msm_hpc.launch.local_processes import ends_the_job, stop_when_orphaned
from msm_hpc.launch.logs import STARTS_IN
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.launch.several import AGAIN, FAILED, MADE, STOPPED, begin_log, mark, marked, name_of
from msm_hpc.serving import kept
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.records import Record
from msm_hpc.store.store import Store
from msm_hpc.training.checkpoints.kept import weights_kept

log = logging.getLogger(__name__)
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_NOTICE = 150.0
"""That a rank was lost: its heartbeat is waited for by the others (:mod:`msm_hpc.training.watch`)."""


def run_steps(root: str, *step_ids: str) -> None:
    """Make steps, each after those that it reads; what reads one that failed ends as it finds that.

    With status 1 the process ends if a signal stopped a step, or if none was made: Slurm then lets nothing run that
    waits for this job, while otherwise what reads the others is to run.
    """
    with noticed():  # a signal that comes between two steps, or while modules are loaded, reaches the next step
        if len(step_ids) == 1:
            run_step(root, *step_ids)
            return
        importlib.import_module("msm_hpc.launch.preloaded")
        with kept(), weights_kept(memory_of_a_rank()):
            made = _one_after_another(root, step_ids)
            sys.exit(0 if made or current_ranks().rank else 1)  # what rank 0 says counts: srun ends the others with it


def _one_after_another(root: str, step_ids: Sequence[str]) -> bool:
    """Whether any was made, as far as this rank can tell, and none was stopped."""
    made = False
    for step_id in step_ids:
        if _would_fail_again(Store(Path(root)).folder(step_id)):
            log.info("%s failed in this job before; the next `msm run` tries it again", step_id)
            continue
        made |= _in_a_process(root, step_id)
        if marked(STOPPED) or marked(AGAIN):
            return False
    return made


def _would_fail_again(folder: StepFolder) -> bool:
    """Whether this job, which was requeued for another of its steps, made this one fail before."""
    newest = folder.newest()
    last = newest.read() if newest else None
    return last is not None and last.cause in OF_THE_WORK and same_job(last.job, current_job())


def _in_a_process(root: str, step_id: str) -> bool:
    """Make a step in a process of its own, whether it can be or not. A signal reaches that process as it does this."""
    process = multiprocessing.get_context("fork").Process(target=run_step, args=(root, step_id))
    process.start()
    failed, ranks = f"{FAILED}.{name_of(step_id)}", current_ranks()
    if ranks.world_size > 1:
        _await_with_others(process, failed)
    process.join()
    assert process.exitcode is not None
    if process.exitcode < 0 and ranks.rank == 0:
        record_killed(Store(Path(root)).folder(step_id), Signals(-process.exitcode))
    if process.exitcode:
        mark(failed)
    return process.exitcode == 0


def _await_with_others(process: BaseProcess, failed: str) -> None:
    """Wait until it has ended, and kill it where it still runs long after the step has ``failed`` on another rank.

    It may need a while to find that out, and to record it.
    """
    deadline = math.inf
    while process.is_alive():
        process.join(SECONDS_BETWEEN_LOOKS)
        if deadline == math.inf and marked(failed):
            deadline = time.monotonic() + SECONDS_TO_NOTICE
        if time.monotonic() > deadline:
            log.error("the step failed on another rank, and did not end here for %.0f s: killed", SECONDS_TO_NOTICE)
            process.kill()


def run_step(root: str, step_id: str) -> None:
    """Make the step ``step_id`` of the store at ``root``, unless it is done.

    Raises:
        UpstreamMissingError: an input is missing, or damaged.
        LeaseHeldError: another living job is making it, or has taken it over.
        UserError: a file the step reads from outside has changed, or what the stage itself refuses.
    """
    begin_log(step_id)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ranks = current_ranks()
    os.environ.update(ranks.environment(name_of(step_id)) if ranks.world_size > 1 else {})
    store = Store(Path(root))
    folder = store.folder(step_id)
    if folder.done:
        log.info("%s is done already", step_id)
        return
    record = folder.read_own_record()
    resumable = KINDS[record.kind].resumable
    stop_when_orphaned(SIGTERM if resumable else SIGINT)
    with _marked_if_stopped(), noticed() as request:
        if ranks.rank == 0:
            with releasing(store, step_id):
                _make(store, folder, record, ranks.world_size, request)
        else:
            _help(store, folder, record, request)


@contextlib.contextmanager
def _marked_if_stopped() -> Iterator[None]:
    try:
        yield
    except StoppedBySignalError:
        mark(STOPPED)
        raise


def _make(store: Store, folder: StepFolder, record: Record, ranks: int, request: StopRequest) -> None:
    """On rank 0: one attempt, from taking it to publishing its result."""
    kind = KINDS[record.kind]
    with ends_the_job():
        own = take(folder, ranks, store.versions(record))
    # In this order: the lease is held until they are gone, and a signal does not interrupt what is recorded.
    at_once = contextlib.nullcontext() if kind.resumable else obeyed_at_once(request)
    with recorded(folder, own, kind.resumable), ends_the_job(), at_once:
        # By an attempt that was given up, a moment ago or just before its end; or it was never damaged.
        if folder.done or folder.cleared(own) or folder.adopt(own):
            log.info("%s is done already", record.name)
            return
        inputs = find_inputs(store, record, verify=True)
        if inputs.missing and kind.missing_inputs_allowed:
            _run_aside(store, inputs)
        inputs.refuse_missing()
        request.obey("before it began")
        prepare(folder, own, kind)
        _run_stage(inputs, own.out)
        if lacking := [name for name in kind.result if not (own.out / name).exists()]:
            raise UserError(f"{own.out} lacks {', '.join(lacking)}, so it is no result: delete it, and `msm run` again")
        inputs.refuse_changed(store)
        own.keep_progress()
        folder.publish(own)
        mark(MADE)


def _help(store: Store, folder: StepFolder, record: Record, request: StopRequest) -> None:
    """On another rank: run the stage in the folder that rank 0 has made ready."""
    own = follow(folder, request)
    if own is None:
        log.info("%s is done already", record.id)
        return
    with witness(folder, own):
        inputs = find_inputs(store, record, verify=False)
        inputs.refuse_missing()
        _run_stage(inputs, own.out)


def _run_stage(inputs: StepInputs, out: Path) -> None:
    record = inputs.record
    kind = KINDS[record.kind]
    os.environ.setdefault("WANDB_NAME", record.name)
    stage = kind.load_gather() if record.shares else kind.load()
    log.info("%s %s %s", record.name, STARTS_IN, out)
    stage(record.typed_config(), inputs.typed(), out)


def _run_aside(store: Store, inputs: StepInputs) -> None:
    """Make what can be made of the inputs that are there; it is for people to look at, and no result."""
    try:
        _run_stage(inputs, store.unfinished(inputs.record.name))
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        log.warning("what can be said already could not be written: %s", error)
