"""The journal of submissions below a root: what was about to be submitted, and the id that Slurm gave it.

``ROOT/submissions.jsonl`` has a line for each array ahead of its sbatch, and one with its id after that. The first has
a token that is in the job's comment, too. So wherever ``msm run`` was killed, the next one asks Slurm for the tokens
that have no id: a job that is there is taken on; what is not was never submitted, or has ended.

The journal also says which job a step is queued in: its steps need no file each. Only who holds the
:func:`~msm_hpc.store.lock.submission_lock` writes it.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from msm_hpc.base.files import atomic
from msm_hpc.base.typed_json import adapter
from msm_hpc.launch.job import JobRef
from msm_hpc.store.shared import locked_out, share


@dataclass(frozen=True)
class Submission:
    """An array that was submitted, or was about to be: then its ``job`` is None.

    Attributes:
        elements: for each job of the array the ids of its steps.
        campaign: whose run submitted it.
        code: the name of the copy of the code that its jobs run.
        at: seconds since the epoch.
        rest: it makes no step, and submits these when there is room.
        waits: for each job the ids of the steps that it need only wait for, where Slurm was told to wait for more.
    """

    token: str
    name: str
    elements: tuple[tuple[str, ...], ...]
    user: str
    cluster: str
    campaign: str
    code: str
    at: float
    job: str | None = None
    rest: bool = False
    waits: tuple[tuple[str, ...], ...] = ()

    @property
    def steps(self) -> frozenset[str]:
        """The ids of all its steps."""
        return frozenset(step for steps in self.elements for step in steps)

    @property
    def jobs(self) -> dict[str, JobRef]:
        """The job of each step, by the step's id; none as long as Slurm's answer is not known."""
        if self.job is None:
            return {}
        count = len(self.elements)
        ids = [f"{self.job}_{element}" for element in range(count)] if count > 1 else [self.job]
        return {
            step: JobRef("slurm", each, started=self.at, user=self.user, cluster=self.cluster)
            for steps, each in zip(self.elements, ids, strict=True)
            for step in steps
        }


def new_token() -> str:
    """A word that no other job has in its comment."""
    return f"msm-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Journal:
    """The journal below ``root``."""

    root: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.root / "submissions.jsonl"

    def read(self) -> tuple[Submission, ...]:
        """All submissions, oldest first; a line that was cut short by a kill counts for nothing.

        Raises:
            UserError: the journal is another user's, who has not shared it.
        """
        return self._read("")

    def waiting_for(self, step_id: str) -> tuple[Submission, ...]:
        """The arrays of which some element waits for a step, and not for all that Slurm was told."""
        return tuple(each for each in self._read(step_id) if any(step_id in waits for waits in each.waits))

    def _read(self, word: str) -> tuple[Submission, ...]:
        """The submissions in whose line a word is."""
        try:
            lines = [line for line in self.path.read_bytes().splitlines() if word.encode() in line]
        except FileNotFoundError:
            return ()
        except PermissionError as error:
            raise locked_out(self.path) from error
        found: dict[str, Submission] = {}
        for line in lines:
            try:
                submission = adapter(Submission).validate_json(line)
            except ValidationError:
                continue
            found[submission.token] = submission
        return tuple(found.values())

    def of(self, jobs: Iterable[JobRef]) -> list[Submission]:
        """The submissions that have one of ``jobs``, which may have started since."""
        ids = {(job.id, job.cluster) for job in jobs}
        return [each for each in self.read() if any((job.id, job.cluster) in ids for job in each.jobs.values())]

    def forget(self, submissions: Iterable[Submission]) -> str:
        """The shell command that deletes the lines of submissions, for people to call."""
        edits = [word for each in submissions for word in ("-e", f"/{each.token}/d")]
        return shlex.join(["sed", "-i", *edits, str(self.path)])

    def rewrite(self, submissions: Sequence[Submission]) -> None:
        """Leave these only, in a file that all who share the root can add to."""
        with atomic(self.path) as file:
            file.write("".join(map(_line, submissions)).encode())
            share(Path(file.name), self.root)

    def add(self, submission: Submission) -> None:
        """Add a line to what :meth:`rewrite` left; it is on disk when this returns."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(submission))
                file.flush()
                os.fsync(file.fileno())
        except PermissionError as error:
            raise locked_out(self.path) from error

    def answered(self, submission: Submission, job: str) -> None:
        """Note the id that Slurm gave."""
        self.add(replace(submission, job=job))


def _line(submission: Submission) -> str:
    return json.dumps(asdict(submission)) + "\n"
