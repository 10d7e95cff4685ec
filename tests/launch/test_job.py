from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.launch.launcher import living
from msm_hpc.launch.local import start_local
from msm_hpc.launch.ranks import Ranks, current_ranks


def test_outside_of_a_job_there_is_one_rank() -> None:
    assert current_ranks() == Ranks(0, 1, 0, "127.0.0.1", 0)


def test_the_variables_are_those_of_torchrun() -> None:
    assert Ranks(3, 8, 1, "n1", 20001).environment() == {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "20001",
    }


def test_a_process_lives_until_it_ends() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    job = local_job(process.pid)
    assert living([job]) == {job}
    process.kill()
    process.wait()
    assert living([job]) == frozenset()


def test_a_reused_process_id_is_another_process() -> None:
    mine = local_job(os.getpid())
    assert living([mine, JobRef("local", mine.id, mine.host, mine.started - 3600)]) == {mine}


def test_a_local_job_of_another_host_counts_as_living() -> None:
    elsewhere = JobRef("local", "1", f"not-{socket.gethostname()}", 0.0)
    assert living([elsewhere]) == {elsewhere}


def test_asking_for_slurm_jobs_without_slurm_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="squeue is not on the PATH"):
        living([JobRef("slurm", "64_3")])


def write_ranks(folder: str) -> None:
    """What each rank of a job sees, in a file of its own."""
    ranks = current_ranks()
    (Path(folder) / str(ranks.rank)).write_text(f"{ranks.world_size} {ranks.local_rank} {ranks.master_port}")


@pytest.mark.slow
def test_a_local_job_has_as_many_ranks_as_asked(tmp_path: Path) -> None:
    job = start_local(tmp_path / "jobs", 2, write_ranks, str(tmp_path))
    job.wait()
    seen = [(tmp_path / str(rank)).read_text().split() for rank in (0, 1)]
    assert [(world, local) for world, local, _ in seen] == [("2", "0"), ("2", "1")]
    assert seen[0][2] == seen[1][2]
