"""One ``msm run`` at a time submits below a root, from whichever login node.

The lock is a file that names its holder. It appears by a hard link, which fails where there is one: that holds on every
file system that login nodes share, while flock on Lustre may work within each node alone, or not at all. It is void

- at once, where its holder was a process of this host and is gone;
- where the holder is on another host, once it has not touched the file for :data:`SECONDS_UNTIL_VOID`.

A holder that stood still for that long has lost the lock without noticing; so it checks ahead of every sbatch.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_json
from msm_hpc.base.typed_json import adapter
from msm_hpc.base.watched import Watched, touching
from msm_hpc.launch.job import JobRef, is_elsewhere, is_running, local_job
from msm_hpc.store.shared import locked_out, share

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_UNTIL_VOID = 90.0


@dataclass(frozen=True)
class Lock:
    """A lock that this process took; ``opened`` is its file, whatever is at ``path`` by now."""

    path: Path
    opened: int

    @property
    def held(self) -> bool:
        """Whether nobody has taken the lock over."""
        try:
            return os.stat(self.path).st_ino == os.fstat(self.opened).st_ino
        except FileNotFoundError:
            return False

    def check(self) -> None:
        """Refuse to go on without the lock.

        Raises:
            UserError: another run has taken it over.
        """
        if not self.held:
            raise UserError(
                f"another `msm run` has taken over {self.path}, since this one stood still for more than "
                f"{SECONDS_UNTIL_VOID:.0f} s; what was submitted stays: run it again"
            )


@contextlib.contextmanager
def submission_lock(root: Path, say: Callable[[str], None]) -> Iterator[Lock]:
    """Hold the lock of ``root``; where another process holds it, ``say`` for whom we wait."""
    lock = _take(root / "submitting.json", say)
    try:
        # The file that was taken is touched, not the one that is there: that may be another's by now.
        with touching(lambda: os.utime(lock.opened)):
            yield lock
    finally:
        if lock.held:
            lock.path.unlink()
        os.close(lock.opened)


def _take(path: Path, say: Callable[[str], None]) -> Lock:
    mine = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_json(mine, asdict(local_job()))
    share(mine, path.parent)
    opened = os.open(mine, os.O_RDONLY)
    try:
        holder = _Holder(path, say)
        while True:
            with contextlib.suppress(FileExistsError):
                os.link(mine, path)
            if os.fstat(opened).st_nlink > 1:  # not by link's answer, which a file server may have lost
                return Lock(path, opened)
            holder.look()
            time.sleep(SECONDS_BETWEEN_LOOKS)
    except BaseException:  # broad: Ctrl-C, too; raised again
        os.close(opened)
        raise
    finally:
        mine.unlink()


class _Holder:
    """The lock that another process holds, watched until it is void, and removed then."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._watched = Watched()
        self._named: JobRef | None = None

    def look(self) -> None:
        """Say whose it is, and remove it if it is void.

        Raises:
            UserError: it is torn, or another user's, who has not shared it.
        """
        try:
            inode, untouched = self._path.stat().st_ino, self._watched.seconds(self._path)
            holder = adapter(JobRef).validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except PermissionError as error:
            raise locked_out(self._path) from error
        except ValidationError as error:
            raise UserError(
                f"{self._path} is damaged, so that it is not known who is submitting below {self._path.parent}: if no "
                "`msm run` is, delete that file; then run again"
            ) from error
        if holder != self._named:
            self._named = holder
            self._say(
                f"Waiting for `msm run` of {holder.user} (process {holder.id} on {holder.host}), which is submitting "
                f"below {self._path.parent}"
            )
        silent = is_elsewhere(holder) and untouched > SECONDS_UNTIL_VOID
        if silent or not is_running(holder):
            self._remove(inode)

    def _remove(self, inode: int) -> None:
        """Take the void lock away: by a rename, since that succeeds for one of several who wait."""
        aside = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._path, aside)
            if aside.stat().st_ino != inode:  # another was faster, and this lock is its own
                with contextlib.suppress(FileExistsError):
                    os.link(aside, self._path)
            aside.unlink()
