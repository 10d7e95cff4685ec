"""What is deleted below a root, in two strokes: it is moved aside by a rename, and then deleted at leisure.

So nobody ever sees a part of a step. A process that is killed in between leaves the rest in ``steps/.deleted``, where
nobody looks for results, for whoever deletes next.

What was spent on a step stays spent: the records of its attempts are kept in ``spent/``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from msm_hpc.store.folder import StepFolder


@dataclass(frozen=True)
class Trash:
    """``steps/.deleted`` below ``root``: on the file system of the steps, so that a rename leads there."""

    root: Path

    @property
    def folder(self) -> Path:
        """Where things are until they are gone."""
        return self.root / "steps" / ".deleted"

    def left(self) -> list[Path]:
        """What an earlier deletion left."""
        return sorted(self.folder.glob("*"))

    def take(self, path: Path) -> bool:
        """Move a file or folder aside; whether it could be."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not os.access(path, os.W_OK):
                path.chmod(stat.S_IRWXU)  # the copy of the code is closed
            path.rename(self.folder / f"{path.parent.name}-{path.name}-{secrets.token_hex(4)}")
        except FileNotFoundError:  # somebody else has deleted it
            return True
        except PermissionError:
            return False
        return True

    def spent(self) -> Iterator[StepFolder]:
        """The steps that were deleted, each with the records of its attempts."""
        yield from (StepFolder(path) for path in sorted((self.root / "spent").glob("[!.]*/[!.]*")))

    def empty(self) -> bool:
        """Delete what is there, once the records of attempts are kept; whether all could be."""
        for path in self.left():
            self._keep_records(path)
        for path in self.folder.rglob("*"):
            if path.is_dir() and not os.access(path, os.W_OK):
                with contextlib.suppress(PermissionError):  # another user's
                    path.chmod(stat.S_IRWXU)
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def _keep_records(self, deleted: Path) -> None:
        """Copy those of a step that was moved aside, each with the time of its last sign of life."""
        kept = self.root / "spent" / deleted.name.partition("-")[0] / deleted.name
        attempts = StepFolder(deleted).attempt_folders()
        if not attempts or kept.exists():
            return
        for folder in (kept.parents[1], kept.parent):
            if not folder.exists():
                folder.mkdir()
                folder.chmod(stat.S_IMODE(self.root.stat().st_mode))
        made = kept.with_name(f".{kept.name}.{secrets.token_hex(4)}")
        for attempt in attempts:
            attempt.discard()
            shutil.copytree(attempt.path, made / "attempts" / attempt.path.name)
        made.rename(kept)
