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
from msm_hpc.launch.local import failed_ranks, start_local
from msm_hpc.launch.ranks import Ranks, current_ranks


def test_outside_of_a_job_there_is_one_rank() -> None:
    assert current_ranks() == Ranks(0, 1, 0, "127.0.0.1")


def test_the_variables_are_those_of_torchrun_and_the_port_is_that_of_rank_0(tmp_path: Path) -> None:
    port = Ranks(0, 8, 0, "n1", "run", tmp_path).environment()["MASTER_PORT"]
    assert Ranks(3, 8, 1, "n1", "run", tmp_path).environment() == {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": port,
    }


def test_a_port_belongs_to_one_run_of_a_job_and_to_one_meeting_of_it(tmp_path: Path) -> None:
    runs = [("one", 0), ("one", 1), ("again", 0)]
    taken = [Ranks(0, 2, 0, "n1", run, tmp_path).environment(meeting)["MASTER_PORT"] for run, meeting in runs]
    found = [Ranks(1, 2, 1, "n1", run, tmp_path).environment(meeting)["MASTER_PORT"] for run, meeting in runs]
    assert found == taken and len(set(taken)) == 3


def test_a_taken_port_is_for_pytorch_alone(tmp_path: Path) -> None:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    port = int(Ranks(0, 2, 0, "127.0.0.1", "run", tmp_path).environment()["MASTER_PORT"])
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("", port))
    store = TCPStore("127.0.0.1", port, 2, is_master=True, wait_for_workers=False)
    TCPStore("127.0.0.1", port, 2, is_master=False, wait_for_workers=False).set("key", "value")
    assert store.get("key") == b"value"


def test_a_rank_0_that_never_comes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msm_hpc.launch.ranks.SECONDS_TO_MEET", 0.1)
    with pytest.raises(TimeoutError, match=r"rank 0 has written no port into .*its log says why"):
        Ranks(1, 2, 1, "n1", "run", tmp_path).environment()


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
    port = ranks.environment()["MASTER_PORT"]
    (Path(folder) / str(ranks.rank)).write_text(f"{ranks.world_size} {ranks.local_rank} {port}")


@pytest.mark.slow
def test_a_local_job_has_as_many_ranks_as_asked_also_inside_an_allocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("JOB_ID", "PROCID", "LOCALID", "NODEID"):
        monkeypatch.setenv(f"SLURM_{name}", "3")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    job = start_local(tmp_path / "jobs", 2, write_ranks, str(tmp_path))
    assert failed_ranks(job) == []
    seen = [(tmp_path / str(rank)).read_text().split() for rank in (0, 1)]
    assert [(world, local) for world, local, _ in seen] == [("2", "0"), ("2", "1")]
    assert seen[0][2] == seen[1][2]
