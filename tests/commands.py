"""Stand-ins for commands such as squeue, which record their calls; the fixture ``commands`` puts them into the PATH."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Commands = Callable[..., Path]


def put(folder: Path, **bodies: str) -> Path:
    """Write shell scripts by name; returns the file where each of their calls is a line."""
    for name, body in bodies.items():
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $@" >> {folder}/calls\n{body}\n')
        (folder / name).chmod(0o755)
    return folder / "calls"
