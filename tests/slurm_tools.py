"""Talk to the Slurm cluster that SLURM_CONF names, for tests.

`sacct` trails the truth. For seconds after a submission it shows no row, or one row under the bare array id with the
job name `allocation` and the state COMPLETED, while the elements have yet to run. So `Slurm.wait` gets the elements
that must appear, and believes none but these.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from msm_hpc.launch import slurm_commands

SCRIPTS = Path(__file__).parents[1] / "slurm" / "single_machine"
_UNFINISHED = {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "RESIZING", "SUSPENDED"}


def why_no_cluster() -> str | None:
    """Return why no cluster can be used here, or None if one answers."""
    if "SLURM_CONF" not in os.environ:
        return "no Slurm cluster: run the tests through slurm/single_machine/with_cluster.sh"
    try:
        answer = subprocess.run(["scontrol", "ping"], capture_output=True, text=True)
    except FileNotFoundError:
        return "no Slurm cluster: scontrol is not installed (slurm/single_machine/install.sh)"
    return None if answer.returncode == 0 else f"no Slurm cluster answers: {answer.stdout or answer.stderr}"


@contextlib.contextmanager
def another_cluster() -> Iterator[None]:
    """While this is open, SLURM_CONF names a cluster that nobody else uses."""
    state = tempfile.mkdtemp(prefix="msm-slurm.", dir="/tmp")  # the path of a socket must be short
    given = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")} | {"STATE": state}
    subprocess.run([SCRIPTS / "start.sh"], env=given, check=True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", f"{state}/etc/slurm.conf")
            slurm_commands.settings.cache_clear()
            yield
    finally:
        slurm_commands.settings.cache_clear()
        subprocess.run([SCRIPTS / "stop.sh"], env=given, check=True)


def elements(job_id: str, count: int) -> list[str]:
    """Return the ids of an array's elements 0 to count - 1, as sacct prints them."""
    return [f"{job_id}_{index}" for index in range(count)]


@dataclass(frozen=True)
class Slurm:
    """The cluster of SLURM_CONF, seen from a folder in which jobs start and leave their logs."""

    folder: Path

    def sbatch(self, arguments: Sequence[str], script: str) -> str:
        """Submit a batch script's body and return the job id; raises CalledProcessError if Slurm refuses it."""
        command = ["sbatch", "--parsable", f"--chdir={self.folder}", *arguments]
        return _output(command, stdin=f"#!/bin/bash\n{script}\n").strip()

    def sacct(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return the state of each job and array element that sacct knows among the given jobs."""
        command = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,JobName,State"]
        rows = [line.split("|") for line in _output([*command, f"--jobs={','.join(job_ids)}"]).splitlines()]
        return {job: state.split()[0] for job, name, state in rows if name != "allocation"}

    def wait(self, job_ids: Collection[str], timeout: float = 120) -> dict[str, str]:
        """Wait until each of the jobs or array elements has ended and return their states.

        Raises:
            TimeoutError: after `timeout` seconds; the message has sacct's and squeue's last words.
        """
        deadline = time.monotonic() + timeout
        while True:
            states = self.sacct(job_ids)
            ended = {job: states[job] for job in job_ids if states.get(job, "PENDING") not in _UNFINISHED}
            if len(ended) == len(job_ids):
                return ended
            if time.monotonic() > deadline:
                queue = _output(["squeue", "--noheader", "--format=%i %T %r"])
                raise TimeoutError(f"after {timeout} s sacct says {states}, squeue says:\n{queue}")
            time.sleep(0.3)


def processes(**variables: str) -> list[psutil.Process]:
    """Those of this cluster with such variables; other clusters here have jobs and nodes of the same names."""
    variables["SLURM_CONF"] = os.environ["SLURM_CONF"]
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if variables.items() <= process.environ().items():
                found.append(process)
    return found


@contextlib.contextmanager
def lost(node: str, ranks: Sequence[psutil.Process] = ()) -> Iterator[None]:
    """The node's daemon stands still while this is open, and Slurm takes it to be down; so do ``ranks``, at first."""
    (daemon,) = (each for each in processes() if each.cmdline() == ["slurmd", "-D", "-N", node])
    for process in (daemon, *ranks):
        process.send_signal(signal.SIGSTOP)
    try:
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=down", "reason=lost"], check=True)
        yield
    finally:
        daemon.send_signal(signal.SIGCONT)
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"])  # refused where it has come back


@contextlib.contextmanager
def configured(line: str) -> Iterator[None]:
    """Slurm has one more line in its configuration."""
    file = Path(os.environ["SLURM_CONF"])
    before = file.read_text()
    try:
        file.write_text(f"{before}\n{line}\n")
        subprocess.run(["scontrol", "reconfigure"], check=True)
        slurm_commands.settings.cache_clear()
        yield
    finally:
        file.write_text(before)
        subprocess.run(["scontrol", "reconfigure"], check=True)
        slurm_commands.settings.cache_clear()


SINFO = ["sinfo", "--noheader", "--format=%t"]
"""The states of the nodes; unknown until they register with a controller that has just started."""


@contextlib.contextmanager
def without_controller(*changes: tuple[str, str]) -> Iterator[None]:
    """While this is open, slurmctld is gone. Another one comes after it.

    That one finds ``changes`` in its configuration, each a line's beginning and the line in its place.
    """
    conf = Path(os.environ["SLURM_CONF"])
    state = conf.parents[1]
    (daemon,) = (each for each in processes() if each.cmdline() == ["slurmctld", "-D"])
    daemon.terminate()  # a kill may lose what it knew last, so that Slurm holds jobs for an administrator
    daemon.wait(30)
    try:
        yield
    finally:
        lines = conf.read_text().splitlines()
        for beginning, line in changes:
            lines = [line if each.startswith(beginning) else each for each in lines]
        conf.write_text("".join(f"{each}\n" for each in lines))
        with (state / "log" / "slurmctld.out").open("a") as log:
            new = subprocess.Popen(["slurmctld", "-D"], stdout=log, stderr=log, start_new_session=True)
        started = Path(f"/proc/{new.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        with (state / "processes").open("a") as known:  # which stop.sh ends
            known.write(f"slurmctld {new.pid} {started}\n")
        deadline = time.monotonic() + 60
        while "is UP" not in _output(["scontrol", "ping"], check=False) or "unk" in _output(SINFO, check=False):
            assert time.monotonic() < deadline, "slurmctld does not answer, or does not hear of its nodes"
            time.sleep(0.2)


def _output(command: list[str], stdin: str = "", check: bool = True) -> str:
    return subprocess.run(command, input=stdin, check=check, text=True, stdout=subprocess.PIPE).stdout


def purge(job: str) -> None:
    """Have the accounting forget a job, as it does with old ones where a site lets it."""
    number = job.partition("_")[0]
    own = f"{number} IN (id_job, id_array_job)"
    with socket.socket(socket.AF_UNIX) as database:
        database.connect(str(Path(os.environ["SLURM_CONF"]).parents[1] / "run" / "mysql.sock"))
        _packet(database)
        secure_41_with_database = 0x8208
        login = struct.pack("<IIB23x", secure_41_with_database, 1 << 24, 33) + b"root\0\0slurm_acct_db\0"
        _send(database, 1, login)
        assert _packet(database)[0] == 0, "the database lets everybody in"
        steps = f"job_db_inx IN (SELECT job_db_inx FROM single_job_table WHERE {own})"
        for table, which in (("step", steps), ("job", own)):
            _send(database, 0, f"\3DELETE FROM single_{table}_table WHERE {which}".encode())
            answer = _packet(database)
            assert answer[0] == 0, answer


def _send(database: socket.socket, number: int, payload: bytes) -> None:
    database.sendall(len(payload).to_bytes(3, "little") + bytes([number]) + payload)


def _packet(database: socket.socket) -> bytes:
    size = int.from_bytes(database.recv(4, socket.MSG_WAITALL)[:3], "little")
    return database.recv(size, socket.MSG_WAITALL)
