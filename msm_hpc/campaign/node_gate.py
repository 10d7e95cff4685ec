"""In a job, ahead of a training: whether its nodes are fit; if not, the job runs again, on others."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import current_job
from msm_hpc.launch.launcher import launcher_of_job
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
    from msm_hpc.launch.node_health import (
        FILE,
        measure,
        record,
    )  # here, since `msm run` names this function without torch

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    ranks = current_ranks()
    measured = measure(ranks)
    if ranks.rank:
        return
    reasons = record(Path(root), measured)
    share(Path(root, FILE), Path(root))
    for node in measured:
        log.info("%s: %s", node.host, reasons.get(node.host, f"fit, {node.matmul:.3g} TFLOP/s a rank"))
    if not reasons:
        return
    for host, reason in reasons.items():
        report_bad_node(Path(root), host, reason)
    said = "; ".join(f"{host}: {reason}" for host, reason in reasons.items())
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_REQUEUES:
        raise UserError(
            f"unfit nodes came {MOST_REQUEUES} times: {said}; set cluster.health_check=false to train on them"
        )
    job = current_job()
    launcher_of_job(job).requeue(job, avoid=tuple(reasons))
    raise UserError(f"this job runs again on other nodes, since these are unfit: {said}")
