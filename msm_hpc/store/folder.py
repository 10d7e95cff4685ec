"""The folder of one step: its record, lease, attempts and result."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import CANNOT_WRITE, read_own, sync, write_json, write_own_json
from msm_hpc.base.hashes import FileHashes, each, leave_cache, xxh3_of
from msm_hpc.base.typed_json import adapter, read_if_whole
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.records import Attempt, Damage, Published, Record, Version, now

log = logging.getLogger(__name__)
_NO_RECORD = "{} is missing or damaged; `msm run` of its campaign writes it again"


class LeaseHeldError(UserError):
    """Another job is making the step, or has taken it over."""


@dataclass(frozen=True)
class StepFolder:
    """One step's folder in the store."""

    path: Path

    @property
    def root(self) -> Path:
        """The root of the store that it is in."""
        return self.path.parents[2]

    @property
    def id(self) -> str:
        """The id of its step."""
        return f"{self.kind}/{self.path.name}"

    @property
    def kind(self) -> str:
        """The kind of its step."""
        return self.path.parent.name

    @property
    def out(self) -> Path:
        """The result, once it is whole."""
        return self.path / "out"

    @property
    def partial(self) -> Path:
        """Where the newest attempt writes its output; there may be none."""
        newest = self.newest()
        return newest.out if newest else self.path / "attempts"

    # -- what it is ----------------------------------------------------------------------------------

    @property
    def record(self) -> Record | None:
        """What ``step.json`` says; None where there is none, or a torn one."""
        return read_if_whole(self.path / "step.json", Record)

    def read_record(self) -> Record:
        """What ``step.json`` says.

        Raises:
            UserError: it is not there, or torn.
        """
        record = self.record
        if record is None:
            raise UserError(_NO_RECORD.format(self.path / "step.json"))
        return record

    def read_own_record(self) -> Record:
        """What ``step.json`` says, for the job that makes the step: the file names programs to start, and keys to send.

        Raises:
            UserError: it is not there, or torn, or somebody else can have written it.
        """
        file = self.path / "step.json"
        try:
            record = adapter(Record).validate_json(read_own(file))
        except PermissionError as error:
            raise UserError(
                f"{file}: {error.strerror}, and it says what a job runs; `msm run` of its campaign writes it again"
            ) from error
        except (FileNotFoundError, ValueError) as error:
            raise UserError(_NO_RECORD.format(file)) from error
        if record.id != self.id:
            raise UserError(f"{file} is of {record.id}; `msm run` of its campaign writes it again")
        return record

    def write_record(self, step: Step) -> None:
        """Write ``step.json``, with placement as asked for now."""
        write_own_json(self.path / "step.json", vars(Record.of(step)))

    # -- who makes it --------------------------------------------------------------------------------

    def lease(self) -> JobRef | None:
        """The job that makes the step or is queued to, whether it lives or not; a torn lease is none.

        That is safe: if the job that it named lives, it is fenced off.
        """
        return read_if_whole(self.lease_file, JobRef)

    @property
    def lease_file(self) -> Path:
        """Where the lease is written."""
        return self.path / "lease.json"

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

    def attempt_folders(self) -> list[AttemptFolder]:
        """The folders of all tries, oldest first."""
        attempts = self.path / "attempts"
        try:
            numbers = [name for name in os.listdir(attempts) if name.isdigit()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((AttemptFolder(attempts / number) for number in numbers), key=lambda folder: folder.number)

    def newest(self) -> AttemptFolder | None:
        """The folder of the last try."""
        return max(self.attempt_folders(), key=lambda folder: folder.number, default=None)

    def attempt(self, number: int) -> AttemptFolder:
        """The folder of attempt ``number``, counted from 1, whether it is there or not."""
        return AttemptFolder(self.path / "attempts" / f"{number:03}")

    def attempts(self) -> list[Attempt]:
        """The records of all tries, oldest first."""
        return [folder.read() for folder in self.attempt_folders()]

    def write_attempt(self, number: int, attempt: Attempt) -> None:
        """Write the record of attempt ``number``, counted from 1."""
        self.attempt(number).write(attempt)

    def holds(self, own: AttemptFolder) -> bool:
        """Whether no newer attempt has taken the step over."""
        return self.newest() == own

    def check_holds(self, own: AttemptFolder) -> None:
        """Refuse to go on where a newer attempt has taken the step over.

        Raises:
            LeaseHeldError: one has.
        """
        newest = self.newest()
        if newest is None:
            raise LeaseHeldError(f"{own.path} was deleted while it was written")
        if newest != own:
            job = newest.read().job
            raise LeaseHeldError(
                f"attempt {newest.number} took over, in {job.launcher} job {job.id} on {job.host}; this one, attempt "
                f"{own.number}, ends and publishes nothing"
            )

    # -- the result ----------------------------------------------------------------------------------

    @property
    def published(self) -> Published | None:
        """What was published last, whether it is still there or not; None where nothing was."""
        return read_if_whole(self._done_file, Published)

    @property
    def done(self) -> bool:
        """Whether the result is there, and nobody has found it damaged."""
        published = self.published
        return published is not None and self.out.exists() and not self._withdrawn(published)

    @property
    def version(self) -> Version | None:
        """Which result was published last, if any was."""
        published = self.published
        return published.version if published else None

    def damage(self) -> str | None:
        """Why what was published is no result any more, if so."""
        published = self.published
        if published is None:
            torn = self._done_file.exists()
            return f"{self._done_file} is damaged: it is empty or cut short" if torn else None
        if withdrawn := self._withdrawn(published):
            return f"{withdrawn.message} ({withdrawn.found})"
        return None if self.out.exists() else f"{self.out} was deleted"

    def publish(self, own: AttemptFolder) -> None:
        """Make the output of ``own`` the result.

        Raises:
            LeaseHeldError: a newer attempt has taken the step over.
        """
        for leftover in own.out.glob(".*"):  # temporary files of a killed writer
            leftover.unlink()
        own.seal()
        self._put_in_place(own, own)

    def adopt(self, own: AttemptFolder) -> bool:
        """Publish what an earlier attempt had finished when it was killed; whether there was such a one.

        Not so where it read other results than there are now.
        """
        for earlier in reversed(self.attempt_folders()):
            whole = earlier.sealed and (earlier.out.exists() or self.out.exists())
            if earlier != own and whole and own.read_the_same(earlier):
                self._put_in_place(earlier, own)
                return True
        return False

    def _put_in_place(self, made: AttemptFolder, own: AttemptFolder) -> None:
        """Publish the sealed output of ``made``, by the right of ``own``, and delete what the attempts left.

        It takes two renames, of which the second counts. A kill between them leaves ``made`` with a ``done.json`` and
        no ``out``, and the next attempt does the second.
        """
        self.check_holds(own)
        if not self.done:  # else an attempt that was given up was faster, and its result is as good
            if made.out.exists():
                if self.out.exists():
                    os.rename(self.out, own.path / "replaced")  # it is damaged
                os.rename(made.out, self.out)
            sync(self.path)
            os.replace(made.done_file, self._done_file)
            sync(self.path)
            self._damage_file.unlink(missing_ok=True)
        self._discard_attempts()

    def _discard_attempts(self) -> None:
        """Delete what the attempts left, now that the result is there."""
        for attempt in self.attempt_folders():
            attempt.discard()
        for leftover in (self.path / "attempts").glob(".*"):  # of processes killed while they took a number
            shutil.rmtree(leftover, ignore_errors=True)

    def verify(self, reader: str, reads: Callable[[str], bool] = lambda name: True) -> str | None:
        """Read the result's files and compare their hashes with what was published: what is wrong, if anything.

        Only those are that the reader ``reads``. A damaged result is withdrawn: the step counts as done no more, and
        ``reader`` is recorded as who found it.
        """
        published = self.published
        if published is None or not self.done:
            return self.damage() or f"{self.path} has no result"
        wrong = self._wrong(published, reads)
        if wrong is not None:
            found = f"found by {reader} on {socket.gethostname()}, {now()}"
            evidence = Damage(published.attempt, published.at, wrong, found)
            try:
                write_json(self._damage_file, asdict(evidence))
            except OSError as error:
                if error.errno not in CANNOT_WRITE:
                    raise
                return f"{wrong}, which could not be noted in {self.path} ({error.strerror}): delete {self._done_file}"
        return wrong

    def cleared(self, own: AttemptFolder) -> bool:
        """Whether a result that a reader found damaged is sound here, and so the result again.

        That reader's host is at fault then, such as its memory. Before ``own`` makes the result again, its files are
        hashed once more, from the disk: what is cached here may be sound where the disk is not, or the other way round.

        Raises:
            LeaseHeldError: a newer attempt has taken the step over.
        """
        published = self.published
        damage = self._withdrawn(published) if published else None
        if published is None or damage is None:
            return False
        try:
            for name in published.files:
                leave_cache(self.out / name)
            if self._wrong(published):
                return False
        except UserError:  # this host cannot read it: it is made again
            return False
        self.check_holds(own)
        log.warning(
            "%s (%s), but on %s it is sound, so it stays; if that host finds more, leave it out",
            *(damage.message, damage.found, socket.gethostname()),
        )
        self._damage_file.unlink(missing_ok=True)
        self._discard_attempts()
        return True

    def _wrong(self, published: Published, reads: Callable[[str], bool] = lambda name: True) -> str | None:
        """How the first file that is not as published differs from that."""
        names = list(filter(reads, published.files))
        compared = each(lambda name: _difference(self.out / name, published.files[name]), names) if names else []
        return next(filter(None, compared), None)

    @property
    def _done_file(self) -> Path:
        return self.path / "done.json"

    @property
    def _damage_file(self) -> Path:
        return self.path / "damaged.json"

    def _withdrawn(self, published: Published) -> Damage | None:
        """The damage of this very result: one that was made again since may be sound."""
        damage = read_if_whole(self._damage_file, Damage)
        return damage if damage and (damage.attempt, damage.at) == published.version else None


def _difference(file: Path, published: FileHashes) -> str | None:
    """How a file differs from what was published, if it does.

    Raises:
        UserError: this host cannot read it.
    """
    try:
        size = file.stat().st_size
        if size != published.bytes:
            return f"{file} is damaged: it has {size:,} bytes, {published.bytes:,} were published"
        if (found := xxh3_of(file)) != published.xxh3:
            return f"{file} is damaged: its XXH3 is {found}, {published.xxh3} was published"
    except OSError as error:
        if error.errno == errno.EIO:  # as likely this host's fault: others may read it well
            raise UserError(
                f"{file} cannot be read on {socket.gethostname()} ({error.strerror}); where other hosts can read it, "
                "leave this one out, and run `msm run` again"
            ) from error
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        return f"{file} is damaged: {error.strerror}"
    return None
