"""The store: what is done, what is being made, what was tried. Plain files that any login node can read.

``ROOT/steps/KIND/IDENTITY/`` holds for each step

- ``step.json``: kind, name, config and inputs, enough to run the step in a job or to say why it differs
- ``lease.json``: the job that is making it
- ``attempts/001.json``: one file a try: where, when, and the cause of its end
- ``out.partial/``, then by one rename ``out/``: the result
- ``done.json``: hashes and sizes of the result's files; a step is done when this and ``out/`` exist
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, write_json
from msm_hpc.graph.kinds import KINDS
from msm_hpc.graph.steps import File, Step
from msm_hpc.launch.jobs import JobRef

Cause = Literal["done", "upstream", "cancelled", "timeout", "preempted", "rank lost", "code"]


@dataclass(frozen=True)
class Attempt:
    """One try at a step. ``end`` is None while it runs, and stays None where the job vanished without a word."""

    job: JobRef
    host: str
    ranks: int
    commit: str | None
    log: str
    start: str
    end: str | None = None
    cause: Cause | None = None
    message: str | None = None

    @property
    def seconds(self) -> float:
        """Wall time of a finished attempt."""
        assert self.end is not None
        return (datetime.fromisoformat(self.end) - datetime.fromisoformat(self.start)).total_seconds()


ATTEMPT = TypeAdapter(Attempt)


@dataclass(frozen=True)
class Record:
    """What ``step.json`` holds. An input is the id of a step, or the path of a file."""

    id: str
    kind: str
    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    identities: Mapping[str, str]
    created: str

    def typed_config(self) -> Any:
        """``config`` as the dataclass that the stage takes."""
        return TypeAdapter(KINDS[self.kind].config).validate_python(dict(self.config))


def now() -> str:
    """The time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class StepFolder:
    """One step's folder in the store."""

    path: Path

    @property
    def out(self) -> Path:
        """The result, once it is whole."""
        return self.path / "out"

    @property
    def partial(self) -> Path:
        """Where the result is written."""
        return self.path / "out.partial"

    @property
    def done(self) -> bool:
        """Whether the result is there and whole."""
        return (self.path / "done.json").exists() and self.out.exists()

    # -- what it is ----------------------------------------------------------------------------------

    def read_record(self) -> Record:
        """What ``step.json`` says."""
        return Record(**read_json(self.path / "step.json"))

    def write_record(self, step: Step) -> None:
        """Write ``step.json``, with placement as asked for now."""
        sources = step.inputs.items()
        record = Record(
            id=step.id,
            kind=step.kind,
            name=step.name,
            config=TypeAdapter(step.definition.config).dump_python(step.config, mode="json"),
            inputs={role: str(s.path.resolve()) if isinstance(s, File) else s.id for role, s in sources},
            identities={role: source.identity for role, source in sources},
            created=now(),
        )
        write_json(self.path / "step.json", asdict(record))

    # -- who makes it --------------------------------------------------------------------------------

    def lease(self) -> JobRef | None:
        """The job that is making the step, whether it lives or not."""
        try:
            return JobRef(**read_json(self.lease_file))
        except FileNotFoundError:
            return None

    @property
    def lease_file(self) -> Path:
        """Where the lease is written."""
        return self.path / "lease.json"

    def claim(self, job: JobRef, dead: JobRef | None) -> bool:
        """Take the lease if nobody holds it, or ``dead`` does; False where another process was faster.

        The lease appears by a hard link, which fails if there is one; a dead one is first renamed away, which succeeds
        for one of several processes.
        """
        if dead is not None:
            aside = self.path / f".lease.{job.host}.{job.id}"
            try:
                os.rename(self.lease_file, aside)
            except FileNotFoundError:
                return False
            if JobRef(**read_json(aside)) != dead:
                os.replace(aside, self.lease_file)
                return False
            aside.unlink()
        mine = self.path / f".mine.{job.host}.{job.id}"
        write_json(mine, asdict(job))
        try:
            os.link(mine, self.lease_file)
        except FileExistsError:
            return False
        finally:
            mine.unlink()
        return True

    def write_lease(self, job: JobRef) -> None:
        """Say that ``job`` makes the step."""
        write_json(self.lease_file, asdict(job))

    def drop_lease(self) -> None:
        """Say that no job makes the step any more."""
        self.lease_file.unlink(missing_ok=True)

    # -- what was tried ------------------------------------------------------------------------------

    def attempts(self) -> list[Attempt]:
        """All tries, oldest first."""
        files = sorted((self.path / "attempts").glob("*.json"))
        return [ATTEMPT.validate_python(read_json(file)) for file in files]

    def write_attempt(self, number: int, attempt: Attempt) -> None:
        """Write the file of attempt ``number``, counted from 1."""
        write_json(self.path / "attempts" / f"{number:03}.json", asdict(attempt))

    # -- the result ----------------------------------------------------------------------------------

    def start_partial(self, keep: bool) -> None:
        """An output folder to write into: empty, unless the stage resumes from what it wrote before."""
        if not keep:
            shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True, exist_ok=True)

    def publish(self) -> None:
        """Make the partial output the result: hash and fsync every file, write ``done.json``, rename the folder.

        A kill at any point before the rename leaves a whole ``out.partial``: a resumable stage finds its work done.
        """
        assert not self.done and self.partial.is_dir(), self.path
        for leftover in self.partial.glob(".*"):  # temporary files of a killed writer
            leftover.unlink()
        files = {str(file.relative_to(self.partial)): _seal(file) for file in _files(self.partial)}
        shutil.rmtree(self.out, ignore_errors=True)
        write_json(self.path / "done.json", {"files": files, "at": now()})
        os.replace(self.partial, self.out)

    def check_sizes(self) -> None:
        """Compare the result's files with what was published.

        Raises:
            UserError: a file is missing or has another size.
        """
        for name, published in read_json(self.path / "done.json")["files"].items():
            file = self.out / name
            found = file.stat().st_size if file.is_file() else None
            if found != published["bytes"]:
                raise UserError(
                    f"{file} is damaged: it has {found or 'no'} bytes, {published['bytes']} were published; delete "
                    f"{self.path} and run again"
                )


@dataclass(frozen=True)
class Store:
    """All steps below one root folder."""

    root: Path

    @property
    def jobs(self) -> Path:
        """Where submitit keeps its pickles and the logs of jobs."""
        return self.root / "jobs"

    def folder(self, step_id: str) -> StepFolder:
        """The folder of the step with this id."""
        return StepFolder(self.root / "steps" / step_id)

    def of(self, step: Step) -> StepFolder:
        """The folder of ``step``."""
        return self.folder(step.id)

    def unfinished(self, name: str) -> Path:
        """A folder, made if need be, for what can be said before all inputs of a step are there."""
        folder = self.root / "unfinished" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def records(self, kind: str) -> Iterator[Record]:
        """Every step of a kind that was ever planned here."""
        for file in sorted((self.root / "steps" / kind).glob("*/step.json")):
            yield StepFolder(file.parent).read_record()

    def campaigns(self) -> list[str]:
        """The names of the campaigns whose report was ever planned here."""
        return sorted({record.name.partition("/")[2] for record in self.records("report")})

    def register(self, steps: tuple[Step, ...]) -> None:
        """Write ``step.json`` of steps that are about to run."""
        for step in steps:
            self.of(step).write_record(step)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seal(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        os.fsync(handle.fileno())
        return {"sha256": digest, "bytes": os.fstat(handle.fileno()).st_size}
