"""The folder of one attempt at a step."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.files import sync, write_json
from msm_hpc.base.hashes import each, hashes_of
from msm_hpc.base.progress import FILE as PROGRESS_FILE
from msm_hpc.base.progress import Progress, read_progress
from msm_hpc.base.typed_json import read_if_whole
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt, Published, now

RECORDS = frozenset({"attempt.json", PROGRESS_FILE})
"""The files of an attempt's folder that stay: where its time went is read from them."""
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT})
"""Of a rename: there is such a folder, or a file server did it, its answer was lost, and it was asked again."""


@dataclass(frozen=True)
class AttemptFolder:
    """``attempts/NNN/`` of a step, in which this attempt alone writes."""

    path: Path

    @property
    def number(self) -> int:
        """The fencing token: the highest number of a step holds it."""
        return int(self.path.name)

    @property
    def out(self) -> Path:
        """Where its output is, until that is the result."""
        return self.path / "out"

    @property
    def unready(self) -> Path:
        """``out`` as long as earlier work is being brought into it."""
        return self.path / ".out"

    @property
    def done_file(self) -> Path:
        """The hashes of its output, until that is the result."""
        return self.path / "done.json"

    def take(self, attempt: Attempt) -> bool:
        """Take this number for ``attempt``; False where another has it.

        The folder appears by a rename, which fails if there is one, with its record in it.
        """
        made = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        write_json(made / "attempt.json", asdict(attempt))
        try:
            os.rename(made, self.path)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
            shutil.rmtree(made, ignore_errors=True)
        return self.read() == attempt

    def read(self) -> Attempt:
        """Its record; where that is torn, one that says so."""
        file = self.path / "attempt.json"
        if found := read_if_whole(file, Attempt):
            return found
        damaged = f"{file} is damaged, so where it ran and how it ended is not known"
        return Attempt(JobRef("local", ""), "", 1, None, log="", start=now(), end=now(), message=damaged)

    def write(self, attempt: Attempt) -> None:
        """Write its record."""
        write_json(self.path / "attempt.json", asdict(attempt))

    def read_the_same(self, earlier: AttemptFolder) -> bool:
        """Whether ``earlier`` read the same results of other steps, so that this one can resume its work."""
        return self.read().inputs == earlier.read().inputs

    def begin(self) -> None:
        """Let ``out`` appear, as it was prepared in ``unready``; it is on disk when this returns."""
        self.unready.mkdir(exist_ok=True)
        os.rename(self.unready, self.out)
        sync(self.path)

    def seal(self) -> None:
        """Hash every file of the output and make sure that it is on disk; from then on it can become the result."""
        files = sorted(path for path in self.out.rglob("*") if path.is_file())
        names = [str(file.relative_to(self.out)) for file in files]
        hashes = dict(zip(names, each(hashes_of, files), strict=True))
        for folder in (*(path for path in self.out.rglob("*") if path.is_dir()), self.out):
            sync(folder)
        write_json(self.done_file, asdict(Published(hashes, self.number, now())))

    @property
    def sealed(self) -> Published | None:
        """What its result is, if it was finished but not published."""
        return read_if_whole(self.done_file, Published)

    @property
    def progress(self) -> Progress | None:
        """How far it got, also after its output has become the result or was deleted; None where it never said."""
        return read_progress(self.path) or read_progress(self.out)

    def keep_progress(self) -> None:
        """Take the word of how far it got out of its output, which becomes the result or is deleted."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self.out / PROGRESS_FILE, self.path / PROGRESS_FILE)

    @property
    def last_sign(self) -> float:
        """When it last wrote a file, in seconds since the epoch: the least that it lived if it left no end."""
        files = (*self.path.glob("*.json"), *self.out.glob("*"))
        return max((times for file in files if (times := _modified(file))), default=0.0)

    @property
    def lived(self) -> float:
        """How many seconds it took, by its last sign of life where it left no end."""
        record = self.read()
        return record.seconds if record.end else max(self.last_sign - record.began, 0.0)

    def discard(self) -> None:
        """Delete its output, which nobody needs; its record stays, with the time of its last sign of life."""
        last_sign = self.last_sign
        with contextlib.suppress(OSError):  # they may belong to another user of the group
            self.keep_progress()
            os.utime(self.path / "attempt.json", (last_sign, last_sign))
        self.done_file.unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # a process that was given up may still write into it


def _modified(file: Path) -> float:
    """When a file was written; 0 where it was deleted meanwhile."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0
