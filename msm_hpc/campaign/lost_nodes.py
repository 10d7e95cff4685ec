"""Nodes that are lost: reported below the root, so that jobs leave them out, and never one after another by one step.

Slurm starts a job again by itself when its node is lost. What ran there could not say so; the next start of the job,
which finds an attempt without an end, does. Where there is none, the next ``msm run`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.causes import RULES, Finding, Run, end_of_run, in_words
from msm_hpc.launch.job import current_job, same_job
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.launch.logs import all_logs, lines_of
from msm_hpc.launch.slurm_ends import runs_of
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.bad_nodes import report_bad_node
from msm_hpc.store.records import stamp

LOST = "its node was lost"


def report(root: Path, nodes: Sequence[str], evidence: str) -> None:
    """Have jobs leave out the nodes that were found to be lost, if any."""
    for node in nodes:
        report_bad_node(root, node, evidence)


def refuse_where_nodes_are_lost(root: Path, earlier: Sequence[AttemptFolder]) -> None:
    """Report the node of the last of the ``earlier`` attempts, if this job was started again as that node was lost.

    Raises:
        UserError: that was so with the last few attempts: the step may be what takes nodes down.
    """
    lost = list(takewhile(lambda found: found is not None, map(_loss, reversed(earlier))))
    for found in filter(None, lost[:1]):
        report(root, found.nodes, found.evidence)
    if len(lost) >= RULES["node"].starts:
        hosts = ", ".join(folder.read().host for folder in earlier[-len(lost) :])
        raise UserError(
            f"the last {len(lost)} starts of this job, on {hosts}, ended as their nodes were lost, and the step may be "
            "the reason, so that it is not tried on more of them. See its log, then `msm run` again"
        )


def record_losses(earlier: Sequence[AttemptFolder]) -> None:
    """Record the end of those of the ``earlier`` attempts that a start of this job lost with their node."""
    runs: tuple[Run, ...] | None = None
    for folder in earlier:
        record, found = folder.read(), _loss(folder)
        if record.end or found is None:
            continue
        runs = runs_of(record.job) if runs is None else runs
        end = end_of_run(runs, record.began) or folder.last_sign
        folder.write(replace(record, end=stamp(end), cause=found.cause, message=LOST, evidence=found.evidence))


def _loss(folder: AttemptFolder) -> Finding | None:
    """What shows that an attempt of this very job ended with its node: that is down, or Slurm says so in the log."""
    attempt, job = folder.read(), current_job()
    if not same_job(attempt.job, job):
        return None
    if attempt.end:
        return Finding("node", attempt.evidence) if attempt.cause == "node" else None
    if down := launcher_of_job(job).down([attempt.host]):
        return Finding("node", "; ".join(down.values()), tuple(down))
    logs = all_logs(Path(attempt.log), job, 1) if attempt.log else []
    said = in_words(line for log in logs for line in lines_of(folder.out, log))
    if said is None or said.cause != "node":
        return None
    return said if said.nodes or attempt.ranks > 1 else replace(said, nodes=(attempt.host,))
