"""How Slurm says that jobs ended: its accounting, or where there is none what the controller still remembers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from msm_hpc.launch.causes import EndedPart, JobEnd
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.slurm_commands import ask, call, has
from msm_hpc.launch.slurm_nodes import down, of_list

UNFINISHED = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "RESIZING"})
"""States of jobs that have not ended; accounting trails the queue by seconds."""
Row = tuple[EndedPart, str]
"""A job or a step of it, and the nodes that it had."""


def ends(jobs: Collection[JobRef]) -> Mapping[str, JobEnd]:
    """How those of ``jobs`` that have ended did, with their steps, by id; one call of sacct, or else of scontrol."""
    ids = {job.id.partition("_")[0] for job in jobs}
    if not ids:
        return {}
    rows, source = _by_accounting(ids), "sacct"
    if rows is None:
        rows, source = list(_by_controller()), "scontrol"
    parts: dict[str, list[EndedPart]] = defaultdict(list)
    nodes: dict[str, str] = {}
    for part, where in rows:
        job, _, step = part.id.partition(".")
        parts[job].append(part)
        nodes[job] = nodes[job] if step else where
    wanted = {job.id for job in jobs}.intersection(parts)
    return {
        job: JobEnd(source, tuple(parts[job]), _lost(parts[job], nodes[job]))
        for job in wanted
        if parts[job][0].state not in UNFINISHED
    }


def _by_accounting(ids: Collection[str]) -> list[Row] | None:
    """What sacct shows, each job ahead of its steps; None where there is no accounting."""
    if not has("sacct"):
        return None
    command = ("sacct", "--noheader", "--parsable2", "--format=JobID,State,ExitCode,NodeList")
    answer = call(*command, f"--jobs={','.join(sorted(ids))}")
    if answer.returncode:
        return None
    rows = ([*line.split("|"), "", ""] for line in answer.stdout.splitlines() if "|" in line)
    return [(EndedPart(job, state.partition(" ")[0], code), nodes) for job, state, code, nodes, *_ in rows]


def _by_controller() -> Iterator[Row]:
    """What scontrol shows of jobs, which it forgets some minutes after their end."""
    if not has("scontrol"):
        return
    for line in ask("scontrol", "--oneliner", "show", "job").stdout.splitlines():
        shown = dict(re.findall(r"(?<!\S)(\w+)=(\S*)", line))
        task = shown.get("ArrayTaskId", "")
        job = f"{shown['ArrayJobId']}_{task}" if task else shown.get("JobId", "")
        yield EndedPart(job, shown.get("JobState", ""), shown.get("ExitCode", "")), shown.get("NodeList", "")


def _lost(parts: Collection[EndedPart], nodes: str) -> tuple[str, ...]:
    """Of a job that ended for a node: which one, or which of several are down now."""
    if all(part.state != "NODE_FAIL" for part in parts):
        return ()
    names = of_list(nodes)
    return names if len(names) == 1 else tuple(down(names))
