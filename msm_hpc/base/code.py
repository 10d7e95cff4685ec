"""Which code runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def code_commit() -> str | None:
    """The commit of the running code, marked ``-dirty`` where it was changed since; None outside of a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None
