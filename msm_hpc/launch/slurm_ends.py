"""How Slurm says that jobs ended: its accounting, or where there is none what the controller still remembers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from msm_hpc.launch.causes import EndedPart, JobEnd, Run
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.slurm_commands import ask, call, has
from msm_hpc.launch.slurm_nodes import down, of_list

UNFINISHED = frozenset({"PENDING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "RESIZING"})
"""States of jobs that have not ended; accounting trails the queue by seconds."""


@dataclass(frozen=True)
class Row:
    """A job or a step of it, with the nodes that it had, and when it began and ended."""

    part: EndedPart
    nodes: str
    start: str
    end: str

    @property
    def run(self) -> tuple[Run, ...]:
        """The run of a job, where both of its times are known."""
        try:
            return ((_seconds(self.start), _seconds(self.end)),)
        except ValueError:  # such as Unknown
            return ()


def ends(jobs: Collection[JobRef]) -> Mapping[str, JobEnd]:
    """How those of ``jobs`` that have ended did, with their steps, by id; one call of sacct, or else of scontrol."""
    ids = {job.id.partition("_")[0] for job in jobs}
    if not ids:
        return {}
    rows, source = _by_accounting(ids), "sacct"
    if rows is None:
        rows, source = list(_by_controller()), "scontrol"
    last: dict[str, list[Row]] = defaultdict(list)
    runs: dict[str, tuple[Run, ...]] = defaultdict(tuple)
    for row in rows:
        job, _, step = row.part.id.partition(".")
        if not step:  # the last run of a job that was requeued comes last
            last[job].clear()
            runs[job] += row.run
        last[job].append(row)
    wanted = {job.id for job in jobs if last.get(job.id, [])}
    return {
        job: JobEnd(source, tuple(row.part for row in last[job]), _lost(last[job]), runs[job])
        for job in wanted
        if last[job][0].part.state not in UNFINISHED
    }


def runs_of(job: JobRef) -> tuple[Run, ...]:
    """When the runs of a job that is running again began and ended, where there is accounting."""
    rows = _by_accounting({job.id.partition("_")[0]}) or []
    return tuple(run for row in rows if row.part.id == job.id for run in row.run)


def _by_accounting(ids: Collection[str]) -> list[Row] | None:
    """What sacct shows, each run of a job ahead of its steps; None where there is no accounting."""
    if not has("sacct"):
        return None
    command = ("sacct", "--noheader", "--parsable2", "--duplicates", "--format=JobID,State,ExitCode,NodeList,Start,End")
    answer = call(*command, f"--jobs={','.join(sorted(ids))}")
    if answer.returncode:
        return None
    rows = ([*line.split("|"), *4 * [""]] for line in answer.stdout.splitlines() if "|" in line)
    return [Row(EndedPart(job, state.partition(" ")[0], code), *more[:3]) for job, state, code, *more in rows]


def _by_controller() -> Iterator[Row]:
    """What scontrol shows of jobs, which it forgets some minutes after their end."""
    if not has("scontrol"):
        return
    for line in ask("scontrol", "--oneliner", "show", "job").stdout.splitlines():
        shown = defaultdict(str, re.findall(r"(?<!\S)(\w+)=(\S*)", line))
        job = f"{shown['ArrayJobId']}_{shown['ArrayTaskId']}" if shown["ArrayTaskId"] else shown["JobId"]
        part = EndedPart(job, shown["JobState"], shown["ExitCode"])
        yield Row(part, shown["NodeList"], shown["StartTime"], shown["EndTime"])


def _seconds(stamp: str) -> float:
    """A time as Slurm prints it: that of the clock here."""
    return datetime.fromisoformat(stamp).timestamp()


def _lost(rows: Sequence[Row]) -> tuple[str, ...]:
    """Of a job that ended for a node: which one, or which of several are down now."""
    if all(row.part.state != "NODE_FAIL" for row in rows):
        return ()
    names = of_list(rows[0].nodes)
    return names if len(names) == 1 else tuple(down(names))
