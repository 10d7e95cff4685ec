"""Nodes that are lost: reported below the root, so that jobs leave them out, and never one after another by one step.

Slurm starts a job again by itself when its node is lost. What ran there could not say so; the next start of the job,
which finds an attempt without an end, does. Where there is none, the next ``msm run`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.causes import RULES, Finding, in_words
from msm_hpc.launch.job import current_job, same_job
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.launch.logs import lines_since
from msm_hpc.store.attempts import AttemptFolder
from msm_hpc.store.bad_nodes import report_bad_node


def report(root: Path, found: Finding) -> None:
    """Have jobs leave out the nodes that were found to be lost, if any."""
    for node in found.nodes:
        report_bad_node(root, node, found.evidence)


def refuse_where_nodes_are_lost(root: Path, earlier: Sequence[AttemptFolder]) -> None:
    """Report the node of the last of the ``earlier`` attempts, if this job was started again as that node was lost.

    Raises:
        UserError: that was so with the last few attempts: the step may be what takes nodes down.
    """
    job = current_job()
    unended = takewhile(lambda each: same_job(each.job, job) and not each.end, (at.read() for at in reversed(earlier)))
    cut_off = list(unended)
    if not cut_off:
        return
    last = cut_off[0]
    down = launcher_of_job(job).down([last.host])
    in_log = in_words(lines_since(earlier[-1].marker, Path(last.log))) if last.log else None
    if down:
        report(root, Finding("node", "; ".join(down.values()), tuple(down)))
    elif in_log and in_log.cause == "node":
        report(root, Finding("node", in_log.evidence, in_log.nodes or (last.host,) * (last.ranks == 1)))
    if len(cut_off) >= RULES["node"].starts:
        hosts = ", ".join(attempt.host for attempt in cut_off)
        raise UserError(
            f"the last {len(cut_off)} starts of job {job.id} ended without a record, on {hosts}: these nodes were lost "
            "and the step may be the reason, so that it is not tried on more of them. See its log, then `msm run` again"
        )
