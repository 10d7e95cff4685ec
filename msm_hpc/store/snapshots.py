"""The code as it was at submission: jobs run a copy, so that the checkout may be edited while they wait.

``ROOT/code/USER-HASH/`` has both packages as they are imported here, and what is known of them:

- ``code.json``: the commit, marked ``-dirty`` where the checkout differs from it
- ``changes.diff``: how it does, but for files that git does not follow

Its hash is that of the files' content, so that what did not change is copied once. Nobody may write into it, and those
may read it whom the umask lets. The script of a job makes sure that it is its user's own: in a folder that a group
shares, nobody is to have code run as another.
"""

from __future__ import annotations

import compileall
import hashlib
import os
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

import msm_hpc
import tokenization
from msm_hpc.base.code import FILE, code_commit, git
from msm_hpc.base.files import sync, write_json, write_text
from msm_hpc.launch.job import user_name

PACKAGES = (msm_hpc, tokenization)
WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class Snapshot:
    """A copy of the code; ``commit`` is that of the checkout that it was made of, None where it was made of none."""

    folder: Path
    commit: str | None

    @property
    def changed(self) -> bool:
        """Whether the checkout differed from its commit."""
        return self.commit is not None and self.commit.endswith("-dirty")


def snapshot_of(root: Path) -> Snapshot:
    """The copy that jobs submitted now would run; it may not be there yet."""
    digest = hashlib.sha256()
    for name, source in _files():
        digest.update(f"{name}\0".encode() + hashlib.sha256(source.read_bytes()).digest())
    return Snapshot(root / "code" / f"{user_name()}-{digest.hexdigest()[:16]}", code_commit())


def keep_code(root: Path) -> Snapshot:
    """Copy the code, unless that is done; the copy appears by one rename, on disk and whole."""
    snapshot = snapshot_of(root)
    if snapshot.folder.exists():
        return snapshot
    _shared_folder(snapshot.folder.parent, root)
    made = snapshot.folder.with_name(f".{snapshot.folder.name}.{secrets.token_hex(4)}")
    try:
        for name, source in _files():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, made / name)
        write_json(made / FILE, {"commit": snapshot.commit})
        if snapshot.changed:
            write_text(made / "changes.diff", _changes())
        compileall.compile_dir(made, quiet=1, stripdir=str(made), prependdir=str(snapshot.folder))
        _close(made)
        os.rename(made, snapshot.folder)
    except OSError:
        if not snapshot.folder.exists():  # another run of this user was faster
            raise
    finally:
        _delete(made)
    sync(snapshot.folder.parent)
    return snapshot


def _files() -> list[tuple[str, Path]]:
    """The files of both packages with their names in the copy, in one order on every machine."""
    found = []
    for package in PACKAGES:
        folder = Path(package.__path__[0])
        files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        found += [(f"{folder.name}/{path.relative_to(folder)}", path) for path in files]
    return sorted(found)


def _changes() -> str:
    folders = [package.__path__[0] for package in PACKAGES]
    answer = git(Path(folders[0]), "diff", "HEAD", "--", *folders)
    answer.check_returncode()
    return answer.stdout


def _shared_folder(folder: Path, root: Path) -> None:
    """A folder that all who share the root may add to, in which nobody may take away what is another's."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
        folder.chmod(stat.S_IMODE(root.stat().st_mode) | stat.S_ISVTX)
    except FileExistsError:
        return


def _close(made: Path) -> None:
    """Put all files on disk, and let nobody write into the copy any more."""
    for path in (*made.rglob("*"), made):
        sync(path)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~WRITE)


def _delete(made: Path) -> None:
    """Delete a copy that was not finished."""
    for path in (made, *made.rglob("*")):
        if path.is_dir():
            path.chmod(stat.S_IRWXU)
    shutil.rmtree(made, ignore_errors=True)
