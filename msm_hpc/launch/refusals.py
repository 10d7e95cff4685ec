"""Which key of the cluster's profile a refusal of sbatch is about."""

from __future__ import annotations

import re
from dataclasses import fields

from msm_hpc.base.errors import UserError
from msm_hpc.config.cluster import Resources, Work, WorkClasses


class QueueFullError(UserError):
    """Slurm takes no more jobs of this user now."""


AT_A_LIMIT = (
    "at a limit of queued jobs wait until some have ended, and run again: it submits what is left. An array counts as "
    "its elements; where that is too many for the limit, set a smaller cluster.max_array_size"
)

NO_NODES = r"node configuration is not available"
"""What is asked for is on no node; of `sbatch --test-only` also: on none that takes jobs now."""
_FULL = r"SubmitJobs?(PerUser|PerAccount)?Limit"
_KEYS = {
    _FULL: AT_A_LIMIT,
    r"MaxWall": "see {time_minutes}",
    r"violates accounting/QOS policy": "{account} or {qos} does not allow that much",
    r"unrecognized option '--(?P<option>[\w-]+)": "{sbatch} has {option}, no option of sbatch",
    r"partition": "see {partition}",
    r"account": "see {account}",
    r"qos": "see {qos}",
    r"feature": "see {constraint}",
    r"reservation": "see {sbatch}.reservation",
    r"time limit": "see {time_minutes}",
    r"job array": "lower cluster.max_array_size",
    r"gres|generic resource": "see {gpus_per_node}",
    r"memory": "lower {memory_gb}, which is for each rank",
    r"processors|cpu count": "see {cpus_per_rank}, which is for each rank, and layout.nodes",
    r"node configuration": "no node has what is asked for: {memory_gb} and {cpus_per_rank}, both for each rank, "
    "{gpus_per_node}, {constraint}",
}
"""What is searched for in a refusal, and what to look at; the first that is found counts."""


def key_to_change(refusal: str, resources: WorkClasses, work: Work) -> str:
    """What to look at in the profile, where ``work`` was asked for."""
    keys = {item.name: resources.key(work, item.name) for item in fields(Resources)}
    for pattern, key in _KEYS.items():
        if found := re.search(pattern, refusal, re.IGNORECASE):
            return key.format(**keys, **found.groupdict())
    return f"see cluster.resources.{work.of}"


def refused(name: str, refusal: str) -> UserError:
    """The error of an array that sbatch refused."""
    kind = QueueFullError if re.search(_FULL, refusal) else UserError
    return kind(f"sbatch refused {name}: {refusal}")
