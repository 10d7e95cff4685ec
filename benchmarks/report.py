"""Results as Markdown tables, with the machine and the versions they hold for."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from benchmarks.cases import OURS

PACKAGES = ("fastokens", "tokenizers", "numpy", "orjson")


@dataclass(frozen=True)
class Result:
    """One case.

    Attributes:
        group: cases of one group did the same work.
        name: ours, or the peer's.
        cpu: user and system seconds of all processes, the median of the runs.
        wall: seconds, the median.
        peak: bytes of memory of the largest process in any run.
        tokens: how many it wrote.
        runs: CPU-seconds of each run.
    """

    group: str
    name: str
    cpu: float
    wall: float
    peak: int
    tokens: int
    runs: tuple[float, ...]


def text(
    results: Sequence[Result],
    engines: Mapping[tuple[str, str], float],
    pairs: Sequence[tuple[str, str]],
    verdicts: Sequence[str],
    corpora: str,
) -> str:
    """The whole report.

    Args:
        results: ours first in each group.
        engines: name and group to CPU-seconds of an engine alone.
        pairs: a group, and one that has more of the same.
        verdicts: of comparing ids.
        corpora: what they are.
    """
    tables = [_table(group, list(members)) for group, members in groupby(results, key=lambda result: result.group)]
    parts = [
        _machine(),
        corpora,
        *tables,
        _marginal(results, engines, pairs),
        "Ids, against ours:\n\n" + _list(verdicts),
    ]
    return "\n\n".join(part.strip() for part in parts)


def _table(group: str, results: Sequence[Result]) -> str:
    ours = results[0]
    rows = [
        f"| {result.name} | {result.cpu:.2f} | {result.cpu / ours.cpu:.1f} | {result.wall:.1f} "
        f"| {result.peak / 1e9:.2f} | {result.tokens / result.cpu / 1e6:.2f} |"
        for result in results
    ]
    head = f"| {group} | CPU-s | ratio to ours | wall s | peak GB | M tokens per CPU-s |\n|---|---|---|---|---|---|"
    return "\n".join([head, *rows])


def _marginal(
    results: Sequence[Result], engines: Mapping[tuple[str, str], float], pairs: Sequence[tuple[str, str]]
) -> str:
    """What more text costs, start-up cancelled out; of an engine it is the share of its rate that we keep."""
    cpu = {(result.name, result.group): result.cpu for result in results}
    cpu |= engines
    names = list(dict.fromkeys(name for name, _ in cpu))
    rows = []
    for few, many in pairs:
        more = {name: cpu[name, many] - cpu[name, few] for name in names if {(name, few), (name, many)} <= cpu.keys()}
        rows += [
            f"| {many} less {few} | {name} | {cost:.2f} | {cost / more[OURS]:.2f} |" for name, cost in more.items()
        ]
    return "\n".join(["| more text | | CPU-s | ratio to ours |\n|---|---|---|---|", *rows])


def _machine() -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    processor = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    packages = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    now = datetime.now(UTC).date()
    return f"{now}, commit {commit}, {cores} cores of {processor}, Python {platform.python_version()}, {packages}."


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
