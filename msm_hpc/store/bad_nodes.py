"""Nodes that jobs below a root are not to run on: ``ROOT/bad_nodes/NAME.json``, each for a day.

Whoever can write into the root can report one, also from inside a job, and take one back by deleting its file.
"""

from __future__ import annotations

import json
import re
import stat
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.files import atomic
from msm_hpc.base.typed_json import read_if_whole
from msm_hpc.store.shared import share

HOURS = 24.0
"""How long a node is left out: over a night, in which nobody repairs it, and not for ever, as nobody tidies this up."""


@dataclass(frozen=True)
class BadNode:
    """A node to leave out, with what shows that it is bad, until some second since the epoch."""

    name: str
    reason: str
    until: float


def report_bad_node(root: Path, host: str, reason: str) -> None:
    """Have jobs leave out the node of this host name, or Slurm name, for a day from now.

    Slurm knows nodes by their short names. What is none is of no node, and is not reported.
    """
    name = host.partition(".")[0]
    if not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        return
    file = file_of(root, name)
    if not file.parent.exists():
        file.parent.mkdir(exist_ok=True)
        file.parent.chmod(stat.S_IMODE(root.stat().st_mode))
    with atomic(file) as opened:
        opened.write(json.dumps(asdict(BadNode(name, reason, time.time() + HOURS * 3600)), indent=2).encode())
        share(Path(opened.name), root)


def bad_nodes(root: Path) -> list[BadNode]:
    """Those that are to be left out now, the last reported first."""
    found = (read_if_whole(file, BadNode) for file in (root / "bad_nodes").glob("*.json"))
    return sorted((node for node in found if node and node.until > time.time()), key=lambda node: -node.until)


def file_of(root: Path, name: str) -> Path:
    """The file to delete, so that a node is used again."""
    return root / "bad_nodes" / f"{name}.json"
