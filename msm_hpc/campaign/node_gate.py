"""In a job, ahead of a training: whether its nodes are fit; if not, the job runs again, on others."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import current_job, current_node
from msm_hpc.launch.launcher import launcher_of_job
from msm_hpc.launch.node_check import SCRIPT, failed_checks
from msm_hpc.launch.ranks import current_ranks
from msm_hpc.store.bad_nodes import report_bad_node
from msm_hpc.store.shared import share

MOST_REQUEUES = 3
"""How often unfit nodes put a job back into the queue: where all are slow, it is not the nodes."""
log = logging.getLogger(__name__)


def check_nodes(root: str) -> None:
    """Called in every rank of the job.

    Raises:
        UserError: a node is unfit; the job has been put back into the queue, unless that came too often.
    """
    # Here, since `msm run` names this function without torch.
    from msm_hpc.launch.node_health import FILE, gathered, measure, meeting, record

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ranks = current_ranks()
    with meeting(ranks):
        failed = failed_checks(Path(root)) if ranks.local_rank == 0 else ()
        reasons = {
            host: f"{SCRIPT.name}: {'; '.join(lines)}" for host, lines in gathered((current_node(), failed)) if lines
        }
        measured = [] if reasons else measure(ranks)  # a GPU in trouble may never end a product
    if ranks.rank:
        return
    if measured:
        reasons = record(Path(root), measured)
        share(Path(root, FILE), Path(root))
    for node in measured:
        log.info("%s: %s", node.host, reasons.get(node.host, f"fit, {node.matmul:.3g} TFLOP/s a rank"))
    if reasons:
        _leave(Path(root), reasons)


def _leave(root: Path, reasons: Mapping[str, str]) -> None:
    """Have the job run again on other nodes than these, and end it here."""
    try:
        for host, reason in reasons.items():
            report_bad_node(root, host, reason)
    except OSError as error:  # the first node may be one that cannot write there
        log.warning("other jobs are not warned of these nodes: %s", error)
    said = "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_REQUEUES:
        raise UserError(
            f"unfit nodes came {MOST_REQUEUES} times: {said}; set cluster.health_check=false to train on them"
        )
    job = current_job()
    launcher_of_job(job).requeue(job, avoid=tuple(reasons))
    raise UserError(f"this job runs again on other nodes, since these are unfit: {said}")
