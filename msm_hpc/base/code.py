"""Which code runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from msm_hpc.base.files import read_json

FILE = "code.json"
"""Beside the packages of a copy that jobs run: which commit it was made of."""


def code_commit() -> str | None:
    """The commit of the running code, marked ``-dirty`` where it was changed since.

    None outside of a checkout, and where there is no git.
    """
    package = Path(__file__).parents[1]
    if (known := package.with_name(FILE)).exists():
        commit: str | None = read_json(known)["commit"]
        return commit
    if shutil.which("git") is None:
        return None
    answer = git(package, "describe", "--always", "--dirty", "--abbrev=40")
    return answer.stdout.strip() or None


def git(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """What git answers of the checkout of ``folder``, whose code runs here.

    It may be another user's, as where a group has one installation. Git refuses those, so as to run nothing that their
    configuration names; but their code runs here anyway.
    """
    words = ["git", "-c", "safe.directory=*", "-C", str(folder), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False)
