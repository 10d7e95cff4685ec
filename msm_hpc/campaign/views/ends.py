"""How the last try at a step ended, by what is left of it: its own record, what Slurm keeps of its job, its logs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Literal

from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.campaign.views.jobs import Holders
from msm_hpc.graph.steps import Step
from msm_hpc.launch.causes import RULES, Cause, Finding, JobEnd, Rule, in_words
from msm_hpc.launch.job import JobRef, same_job
from msm_hpc.launch.logs import all_logs, lines_of, log_of, tail
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

NO_ROOM = re.compile("No space left on device|Disk quota exceeded")
NO_RECORD = "ended without a record"
VAGUE = frozenset({"rank lost", "cancelled"})
"""Causes behind which Slurm or the logs may show another: a rank, or the whole job, was killed for its memory."""


@dataclass(frozen=True)
class Ended:
    """The end of the last try at a step.

    Attributes:
        cause: as the job recorded it, or as Slurm or the logs show; ``lost`` where nothing does.
        message: what the job said, or what is known of its end.
        log: where its output is, where there is any.
        saved: how far a training got whose next try resumes.
        evidence: the quoted text that shows the cause.
        nodes: those that were lost, where that is the cause.
        times: how many tries in a row ended like this.
        attempt: the folder of the try, if its job got as far.
    """

    step: Step
    cause: Cause | Literal["lost"]
    message: str
    log: Path | None
    saved: Progress | None = None
    evidence: str = ""
    nodes: tuple[str, ...] = ()
    times: int = 1
    attempt: AttemptFolder | None = None

    @property
    def quoted(self) -> str:
        """The evidence, where the message does not have it."""
        return "" if self.evidence in self.message else self.evidence

    @property
    def rule(self) -> Rule:
        """What follows from the cause."""
        return Rule() if self.cause == "lost" else RULES.get(self.cause, Rule())

    @property
    def advice(self) -> str:
        """What to do, where the message does not say it."""
        return "" if self.rule.advice in self.message else self.rule.advice

    def __str__(self) -> str:
        return f"{self.cause}: {self.message}" + (f" ({self.quoted})" if self.quoted else "")


def ended(step: Step, store: Store, jobs: Holders) -> Ended | None:
    """How the last try at ``step``, which no job holds now, ended; None where it was never tried."""
    folders, lease = store.of(step).attempt_folders(), jobs.lease(step)
    attempts = [folder.read() for folder in folders]
    last = attempts[-1] if attempts else None
    if lease is not None and (last is None or not (same_job(last.job, lease) or last.job.started > lease.started)):
        return _before_it_started(step, store, lease, jobs)
    if last is None:
        return None
    saved = read_progress(store.of(step).partial) if step.definition.resumable else None
    log = Path(last.log) if last.log else None
    found, message = _decided(last, folders[-1], jobs.ends.get(lease or last.job))
    times = sum(1 for _ in takewhile(lambda each: each.cause == last.cause, reversed(attempts)))
    if found is None:
        return Ended(step, "lost", message, log, saved, times=times, attempt=folders[-1])
    return Ended(step, found.cause, message, log, saved, found.evidence, found.nodes, times, folders[-1])


def last_ends(steps: Iterable[Step], store: Store, jobs: Holders) -> list[Ended]:
    """How the last tries at those of ``steps`` ended that were tried and that no job holds now."""
    return [end for step in steps if not jobs.alive(step) and (end := ended(step, store, jobs))]


def _decided(last: Attempt, folder: AttemptFolder, end: JobEnd | None) -> tuple[Finding | None, str]:
    """Why an attempt ended, and what to say: by its record, where that is not vague, else by what others know."""
    log = Path(last.log) if last.log else None
    if last.cause is not None and last.cause not in VAGUE:
        return Finding(last.cause, last.evidence), last.message or ""
    found = from_outside(end, all_logs(log, last.job, last.ranks) if log else [], folder.out)
    if last.cause is not None:
        behind = found if found and found.cause in ("oom", "node") else None
        return behind or Finding(last.cause, last.evidence), last.message or ""
    if full := next((line for line in reversed(tail(log) if log else []) if NO_ROOM.search(line)), None):
        return None, f"the disk was full, so that its end could not be recorded: {full}"
    said = last.message or NO_RECORD
    return found, said if found or end is None else f"{said}; {end}"


def _before_it_started(step: Step, store: Store, job: JobRef, jobs: Holders) -> Ended:
    """The end of a job that has the lease and never recorded an attempt."""
    log, end = log_of(store.jobs, job), jobs.ends.get(job)
    message = f"job {job.id} ended before it could start"
    if found := from_outside(end, [log], store.of(step).out):
        return Ended(step, found.cause, message, log, None, found.evidence, found.nodes)
    if end is None and any(not store.done(parent) for parent in step.parents):
        return Ended(step, "cancelled", f"job {job.id} was cancelled, as what it waited for did not come", None)
    if end is None and job.launcher == "slurm" and not log.exists():  # an element that waits leaves no trace
        return Ended(step, "cancelled", f"job {job.id} was cancelled before it started", None)
    return Ended(step, "lost", f"{message}; {end}" if end else message, log)


def from_outside(end: JobEnd | None, logs: Sequence[Path], out: Path) -> Finding | None:
    """What the cluster, else the ``logs`` of the ranks that wrote into ``out``, show of why a job ended."""
    if end and (found := end.finding):
        return found
    said = filter(None, (in_words(lines_of(out, log), log.name) for log in logs))
    return min(said, key=lambda finding: [*RULES].index(finding.cause), default=None)
