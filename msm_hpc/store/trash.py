"""What is deleted below a root, in two strokes: it is moved aside by a rename, and then deleted at leisure.

So nobody ever sees a part of a step. A process that is killed in between leaves the rest in ``steps/.deleted``, where
nobody looks for results, for whoever deletes next.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path


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

    def empty(self) -> bool:
        """Delete what is there; whether all could be."""
        for path in self.folder.rglob("*"):
            if path.is_dir() and not os.access(path, os.W_OK):
                with contextlib.suppress(PermissionError):  # another user's
                    path.chmod(stat.S_IRWXU)
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()
