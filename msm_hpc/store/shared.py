"""Files at a store's root that one user makes and the others of the group read and add to, whatever the umask."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import user_name


def share(file: Path, root: Path) -> None:
    """Give a new ``file`` the group of ``root`` and what that may do there; without being in the group, leave it."""
    folder = root.stat()
    with contextlib.suppress(PermissionError):
        os.chown(file, -1, folder.st_gid)
        file.chmod(stat.S_IMODE(file.stat().st_mode) | folder.st_mode & (stat.S_IRGRP | stat.S_IWGRP))


def locked_out(file: Path) -> UserError:
    """What to say where ``file`` is another user's, and was not shared."""
    return UserError(
        f"{user_name()} may not read and write {file}, which another user has made: let its owner give it to a group "
        "that both are in (`chgrp GROUP`, `chmod g+rw`), best to that of the folder; then run again"
    )
