"""The ranks of a job: which one this process is, and where they meet."""

from __future__ import annotations

import random
from dataclasses import dataclass

import submitit

PORTS = (20_000, 32_000)  # below Linux's ephemeral ports, so that no outgoing connection holds one


@dataclass(frozen=True)
class Ranks:
    """This process's place among the processes of its job, as ``torchrun`` would export it."""

    rank: int
    world_size: int
    local_rank: int
    master_address: str
    master_port: int

    def environment(self) -> dict[str, str]:
        """The variables that ``torch.distributed`` reads with its ``env://`` method."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(self.master_port),
        }


def current_ranks() -> Ranks:
    """The ranks of the submitit job that this process belongs to, or a single rank outside of one."""
    try:
        job = submitit.JobEnvironment()
    except RuntimeError:
        return Ranks(0, 1, 0, "127.0.0.1", 0)
    address = "127.0.0.1" if job.num_nodes == 1 else job.hostnames[0]
    port = random.Random(job.job_id).randrange(*PORTS)
    return Ranks(job.global_rank, job.num_tasks, job.local_rank, address, port)
