"""Which code runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from msm_hpc.base.files import read_json

FILE = "code.json"
"""Beside the packages of a copy that jobs run: which commit it was made of."""


def code_commit() -> str | None:
    """The commit of the running code, marked ``-dirty`` where it was changed since; None outside of a checkout."""
    package = Path(__file__).parents[1]
    if (known := package.with_name(FILE)).exists():
        commit: str | None = read_json(known)["commit"]
        return commit
    command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
