"""Failed steps: what ended each, where its log is, and the log's last lines."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from msm_hpc.graph.steps import Step
from msm_hpc.launch.logs import tail
from msm_hpc.store.store import Store

LITTLE = 2**20
"""Fewer free bytes than these are reported below failures."""


def print_failures(console: Console, steps: Sequence[Step], store: Store) -> None:
    """For each failed step what its last attempt said, where its log is, and the log's last lines."""
    for step in steps:
        attempts = store.of(step).attempts()
        if not attempts:
            never = Text.assemble((step.name, "red"), f" ended before it could start; look into {store.jobs}")
            console.print(never, soft_wrap=True)
            continue
        last = attempts[-1]
        cause = last.cause or "ended without a record (killed, out of memory, or its node was lost)"
        console.print(Text.assemble((step.name, "red"), f" ({step.id}): {cause}"), soft_wrap=True)
        said = [f"  {last.message}"] if last.message else [f"  | {line}" for line in tail(last.log)]
        for line in [*said, f"  log: {last.log}"]:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    if steps:
        _print_full_disk(console, store.root)


def _print_full_disk(console: Console, root: Path) -> None:
    """Say that hardly a byte is free: not every failure for lack of space could be written."""
    free = shutil.disk_usage(root).free
    if free < LITTLE:
        line = f"{root} has {free:,} bytes free: free some, and run again; it resumes from what is complete"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
