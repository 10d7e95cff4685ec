"""Failed steps: what ended them, the last lines of the log, and where it is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from msm_hpc.base.text import few, say
from msm_hpc.campaign.endings import KEPT
from msm_hpc.campaign.views.ends import Ended
from msm_hpc.campaign.views.failures import EXPLAINED, Failure, alike
from msm_hpc.graph.steps import Step

LITTLE = 2**20
"""Fewer free bytes than these are reported below failures."""
MOST = 12
"""Different failures that are shown; the others are counted."""


def print_failures(console: Console, ends: Sequence[Ended], root: Path) -> None:
    """A block for each sort of failure, and whether the disk below ``root`` is full."""
    failures = alike(ends)
    for failure in failures[:MOST]:
        print_failure(console, failure)
    if hidden := failures[MOST:]:
        steps = sum(len(failure.ends) for failure in hidden)
        say(console, f"and {len(hidden)} other sorts of failures, of {steps} steps; first, see to those above")
    if ends:
        _print_full_disk(console, root)


def print_failure(console: Console, failure: Failure) -> None:
    """What the steps share: cause, message, evidence, advice, the log's last lines, and where the rest of it is."""
    first = failure.first
    how = "lost" if first.cause == "lost" else f"failed ({first.cause})"
    say(console, f"{names_of([end.step for end in failure.ends])}: {how}", style="red")
    if first.message:
        say(console, *(f"  {line}" for line in first.message.splitlines()))
    if failure.words_differ:
        say(console, f"  (of {first.step.name}; the others differ in numbers or names)")
    if first.cause not in EXPLAINED:
        known = (("evidence", first.quoted), ("what to do", first.advice))
        say(console, *(f"  {what}: {text}" for what, text in known if text))
    for line in failure.log:
        console.print(f"  | {line}", markup=False, highlight=False, soft_wrap=True, style="dim")
    if first.log is not None:
        say(console, f"  log: {first.log}" if first.log.is_file() else f"  there is no log {first.log}")


def names_of(steps: Sequence[Step]) -> str:
    """The step with its id, or how many they are and the first few names."""
    first, *more = steps
    if not more:
        return f"{first.name} ({first.id})"
    return f"{len(steps):,} steps: {few([step.name for step in steps])}"


def _print_full_disk(console: Console, root: Path) -> None:
    """Say that hardly a byte is free: not every failure for lack of space could be written."""
    free = shutil.disk_usage(root).free
    if free < LITTLE:
        say(console, f"{root} has {free:,} bytes free: free some, and run again; {KEPT}")
