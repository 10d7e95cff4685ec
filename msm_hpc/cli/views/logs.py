"""The log of a step: first, in a sentence, how its last try stands or ended."""

from __future__ import annotations

from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import say
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.failures import EXPLAINED
from msm_hpc.campaign.views.jobs import Holders, holders
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import same_job
from msm_hpc.launch.logs import log_of, read_log
from msm_hpc.store.store import Store


def print_log(session: Session, step: Step) -> None:
    """Print the log of the last try at ``step``, without the traceback of an error whose message says it all.

    Raises:
        UserError: there is none, and why.
    """
    jobs = holders([step], session.store)
    if held := jobs.in_words(step):
        _print(session, f"{step.name} {held}", _log_of_held(step, session.store, jobs))
        return
    end = ended(step, session.store, jobs)
    if end is None:
        raise UserError(f"{step.name} has no log: no job has tried it yet")
    sentence = "" if end.cause == "done" else f"{step.name} ended: {end}"
    _print(session, sentence, end.log, traceback=end.cause not in EXPLAINED)


def _log_of_held(step: Step, store: Store, jobs: Holders) -> Path | None:
    """What the job that holds the step has written; while it is queued, what the one before it did."""
    attempts, job = store.of(step).attempts(), jobs.lease(step)
    assert job is not None
    if attempts and same_job(attempts[-1].job, job):
        return Path(attempts[-1].log)
    own = log_of(store.jobs, job)
    return Path(attempts[-1].log) if attempts and not own.is_file() else own


def _print(session: Session, sentence: str, log: Path | None, traceback: bool = True) -> None:
    """The sentence, where the log is, and the log; of a step that is done the log alone."""
    if log is None or not log.is_file():
        gone = f"; there is no log {log}" if log else "; it has no log"
        raise UserError(f"{sentence or 'it is done'}{gone}")
    if sentence:
        say(session.console, sentence, f"log: {log}", "")
    for line in read_log(log, traceback):
        session.console.file.write(f"{line}\n")
