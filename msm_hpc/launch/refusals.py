"""Which key of the cluster's profile a refusal of sbatch is about."""

from __future__ import annotations

import re

from msm_hpc.config.cluster import WorkClass

AT_A_LIMIT = (
    "at a limit of queued jobs wait until some have ended, and run again: it submits what is left. An array counts as "
    "its elements; where that is too many for the limit, set a smaller cluster.max_array_size"
)

_KEYS = {
    r"SubmitJobs?(PerUser|PerAccount)?Limit": AT_A_LIMIT,
    r"MaxWall": "see cluster.resources.{work}.time_minutes",
    r"violates accounting/QOS policy": "see cluster.resources.{work}: its account or qos does not allow that much",
    r"unrecognized option '--(?P<option>[\w-]+)": "cluster.resources.{work}.sbatch has {option}, no option of sbatch",
    r"partition": "see cluster.resources.{work}.partition",
    r"account": "see cluster.resources.{work}.account",
    r"qos": "see cluster.resources.{work}.qos",
    r"feature": "see cluster.resources.{work}.constraint",
    r"reservation": "see cluster.resources.{work}.sbatch.reservation",
    r"time limit": "see cluster.resources.{work}.time_minutes",
    r"job array": "lower cluster.max_array_size",
    r"gres|generic resource": "see cluster.resources.{work}.gpus_per_node",
    r"memory": "lower cluster.resources.{work}.memory_gb, which is for each rank",
    r"processors|cpu count": "see cluster.resources.{work}.cpus_per_rank, which is for each rank, and layout.nodes",
    r"node configuration": "no node has what cluster.resources.{work} asks for: memory_gb and cpus_per_rank, both for "
    "each rank, gpus_per_node, constraint",
}
"""What is searched for in a refusal, and what to look at; the first that is found counts."""


def key_to_change(refusal: str, work: WorkClass) -> str:
    """What to look at in the profile, for work of this class."""
    for pattern, key in _KEYS.items():
        if found := re.search(pattern, refusal, re.IGNORECASE):
            return key.format(work=work, **found.groupdict())
    return f"see cluster.resources.{work}"
