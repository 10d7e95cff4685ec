"""Put the job of this process back into Slurm's queue, under its id.

That ends the job. Where steps run side by side in it, each in a lane, the others would lose what they have not saved.
So a lane that is to run again only says so in a mark, and the script puts the job back once all lanes have ended.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Collection
from pathlib import Path

import submitit

from msm_hpc.launch import slurm_commands, slurm_nodes
from msm_hpc.launch.job import JobRef, current_job, current_start
from msm_hpc.launch.several import AGAIN, LANE, mark

log = logging.getLogger(__name__)


def requeue(job: JobRef, pause: float, avoid: Collection[str]) -> bool:
    """Have ``job`` run again, after ``pause`` seconds and not on the nodes to ``avoid``; returns whether it will."""
    if LANE not in os.environ:
        return _requeue(job, pause, avoid)
    mark(AGAIN, json.dumps({"pause": pause, "avoid": sorted(avoid)}))
    log.info("requeue of job %s: when all that runs beside this has ended", job.id)
    return True


def requeue_if_asked() -> None:
    """What the script of a job with lanes calls once all have ended, of which one was stopped or is to run again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    folder: Path = submitit.JobEnvironment().paths.folder
    asked = [json.loads(file.read_text()) for file in folder.glob(f".{AGAIN}.{current_start()}.*")]
    if asked:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which Slurm sends as it puts the job back
        avoid = {node for each in asked for node in each["avoid"]}
        _requeue(current_job(), max(each["pause"] for each in asked), sorted(avoid))


def _requeue(job: JobRef, pause: float, avoid: Collection[str]) -> bool:
    nodes, partition = int(os.environ.get("SLURM_JOB_NUM_NODES", "1")), os.environ.get("SLURM_JOB_PARTITION")
    own = slurm_commands.excluded_by(job) if avoid else ""
    exclude = slurm_nodes.more_excluded(own, [*avoid], partition, nodes)
    refusal = slurm_commands.requeue(job, pause, exclude)
    log.info("requeue of job %s: %s", job.id, refusal or "accepted")
    return refusal is None
