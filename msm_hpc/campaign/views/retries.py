"""What a run tries again, and why: a person who runs it again may have fixed something, and should see what."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msm_hpc.base.text import few
from msm_hpc.campaign.views.ends import Ended


def retried(ends: Iterable[Ended], submitted: Collection[str] | None = None) -> Iterator[str]:
    """A line for each cause of the last ends of steps that are run again: all, or the ``submitted``, by identity."""
    again = [
        end
        for end in ends
        if end.cause not in ("done", "upstream") and (submitted is None or end.step.identity in submitted)
    ]
    for cause in dict.fromkeys(end.cause for end in again):
        alike = [end for end in again if end.cause == cause]
        most = max(alike, key=lambda end: end.times)
        times = f", {most.step.name} {most.times} times in a row" if most.times > 1 else ""
        advice = f": {most.rule.advice}" if most.rule.advice else ""
        count = f"{len(alike)} step{'s' if len(alike) > 1 else ''}"
        yield f"Run again after {cause}: {count} ({few([end.step.name for end in alike])}{times}){advice}"
