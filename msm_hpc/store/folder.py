"""The folder of one step: its record, lease, attempts and result."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, sha256_of, write_json
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import ATTEMPT, Attempt, Record, now


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
        write_json(self.path / "step.json", asdict(Record.of(step)))

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

    def touch_lease(self, job: JobRef) -> None:
        """Show that ``job`` lives, while it has the lease."""
        if self.lease() == job:
            os.utime(self.lease_file)

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


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _seal(file: Path) -> dict[str, Any]:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
        return {"sha256": sha256_of(file), "bytes": os.fstat(handle.fileno()).st_size}
