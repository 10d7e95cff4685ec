"""The log of a step: first, in a sentence, how its last try stands or ended."""

from __future__ import annotations

import time
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

SECONDS_BETWEEN_READS = 0.5
SECONDS_BETWEEN_LOOKS = 10.0
"""At the job, on Slurm by squeue; what the attempt records is looked at with each read."""


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


def follow_log(session: Session, step: Step) -> None:
    """Print the log of ``step`` as it is written, of one job after another until none holds it; then how that ended.

    Raises:
        UserError: no job has it or has tried it.
    """
    store, console, said = session.store, session.console, ""
    jobs = holders([step], store)
    if jobs.alive(step) is None:
        print_log(session, step)
        return
    followed = _Followed(session)
    while held := jobs.in_words(step):
        if held != said:
            say(console, f"{step.name} {held}", style="bold")
            said = held
        followed.copy_until_next_look(step, jobs)
        jobs = holders([step], store)
    end = ended(step, store, jobs)
    if end is not None and end.log is not None:
        followed.copy(end.log, over=True)
    how = "is done" if store.done(step) else f"ended: {end.cause}: {end.message}" if end else "is held by no job"
    say(console, f"{step.name} {how}", style="bold")


class _Followed:
    """Logs, and how much of each was printed: that of a requeued job continues where it was."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._printed: dict[Path, int] = {}

    def copy_until_next_look(self, step: Step, jobs: Holders) -> None:
        """Print what the job that holds ``step`` writes, until it is to be asked about again or has ended its try."""
        folder, until = self._session.store.of(step), time.monotonic() + SECONDS_BETWEEN_LOOKS
        before = folder.attempts()
        while True:
            if log := _own_log(step, self._session.store, jobs):
                self.copy(log)
            time.sleep(SECONDS_BETWEEN_READS)
            if time.monotonic() >= until or folder.attempts() != before:
                return

    def copy(self, log: Path, over: bool = False) -> None:
        """Print what is new in a log, below its path where it is new itself: whole lines, until it is ``over``."""
        if not log.is_file():
            return
        if log not in self._printed:
            say(self._session.console, f"log: {log}", "")
        with log.open("rb") as file:
            file.seek(self._printed.get(log, 0))
            new = file.read()
        new = new if over else new[: new.rfind(b"\n") + 1]
        self._session.console.file.write(new.decode(errors="replace"))
        self._session.console.file.flush()
        self._printed[log] = self._printed.get(log, 0) + len(new)


def _own_log(step: Step, store: Store, jobs: Holders) -> Path | None:
    """What the job that holds the step has written for it; none while it is queued and has not tried yet."""
    attempts, job, state = store.of(step).attempts(), jobs.lease(step), jobs.alive(step)
    if job is None or state is None:
        return None
    if attempts and same_job(attempts[-1].job, job):
        return Path(attempts[-1].log)
    return log_of(store.jobs, job) if state.word == "running" else None


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
