"""The ranks of a job: which one this process is, and where they meet.

Rank 0 takes a port that the kernel gives it, which is free by that, and writes its number into a file for the others.
A port that follows from the job's id may be busy, and is again when the job is requeued.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import submitit

from msm_hpc.launch.job import current_start

SECONDS_TO_MEET = 300
_HELD: list[socket.socket] = []


@dataclass(frozen=True)
class Ranks:
    """This process's place among the processes of its job.

    Attributes:
        run: which start of the job this is, and which srun of it; empty outside of a job.
        folder: one that all ranks see, for the file of the port.
    """

    rank: int
    world_size: int
    local_rank: int
    master_address: str
    run: str = ""
    folder: Path = field(default=Path(), repr=False)

    def environment(self, meeting: str = "0") -> dict[str, str]:
        """The variables that ``torch.distributed`` reads with its ``env://`` method, with a port of this meeting.

        Raises:
            TimeoutError: rank 0 has not written its port for minutes; its log says why.
        """
        file = self.folder / f".port.{self.run}.{meeting}"
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.world_size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.master_address,
            "MASTER_PORT": str(_written_port(file) if self.rank else _take_port(file)),
        }


def current_ranks() -> Ranks:
    """The ranks of the submitit job that this process belongs to, or a single rank outside of one."""
    try:
        job = submitit.JobEnvironment()
    except RuntimeError:
        return Ranks(0, 1, 0, "127.0.0.1")
    address = "127.0.0.1" if job.num_nodes == 1 else job.hostnames[0]
    run = f"{current_start()}.{os.environ.get('SLURM_STEP_ID', 0)}"
    return Ranks(job.global_rank, job.num_tasks, job.local_rank, address, run, job.paths.folder)


def _take_port(file: Path) -> int:
    """A free port, which stays ours until this process ends; the file stays, for a rank that looks later.

    The socket is bound and does not listen, so that PyTorch's, which like it sets SO_REUSEADDR, can listen there and
    no other can.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("", 0))
    _HELD.append(held)
    port: int = held.getsockname()[1]
    with file.open("a") as opened:
        opened.write(f"{port}\n")
    return port


def _written_port(file: Path) -> int:
    """The port in ``file``, once it is there.

    The file is opened in a way that makes it if need be: NFS would remember for half a minute that it was missing.
    """
    deadline = time.monotonic() + SECONDS_TO_MEET
    while time.monotonic() < deadline:
        with file.open("a+") as opened:
            opened.seek(0)
            written = opened.read()
        if written.endswith("\n"):
            return int(written)
        time.sleep(0.2)
    raise TimeoutError(f"rank 0 has written no port into {file} for {SECONDS_TO_MEET} s; its log says why")
