"""``python -m benchmarks.submission``: what ``msm plan``, ``run`` and ``status`` of a large campaign cost a login node.

Slurm is a stand-in that counts its calls and queues everything, so that its own time is left out. Each command is a
process of its own, as a user starts it; beside it stands ``msm --help``, the time that Python and the imports take.
Up to ``status`` nothing has run. ``status, later`` is asked when nine steps of ten are done and every second one of the
others has an attempt without an end, since its job was killed: sacct is asked about those.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from msm_hpc.campaign.session import Session
from msm_hpc.graph.steps import Step
from msm_hpc.launch.allocation import Allocation
from msm_hpc.launch.job import JobRef
from msm_hpc.launch.logs import log_of
from msm_hpc.store.journal import Journal
from msm_hpc.store.records import Attempt, stamp
from msm_hpc.store.store import Store
from tests.toy_slurm import ToySlurm
from tests.toy_steps import make

LADDER = ",".join(str(size) for size in range(5, 55, 5))
SEEDS = ",".join(map(str, range(70)))
CAMPAIGN = ("campaign=demo", "cluster=slurm", f"campaign.seeds=[{SEEDS}]", f"sources.chats.ladder=[{LADDER}]")
SLURM = ("sbatch", "squeue", "sacct", "scontrol")


def main() -> None:
    """Print a line for each command."""
    with tempfile.TemporaryDirectory() as folder:
        slurm = ToySlurm.start(Path(folder) / "slurm")
        root = f"root={folder}/runs"
        print(f"{'command':<16} {'wall':>7} {'CPU':>7} {'memory':>8}  calls of Slurm")
        for name, command in {
            "--help": ["--help"],
            "plan --scripts": ["plan", "--scripts", *CAMPAIGN, root],
            "run": ["run", *CAMPAIGN, root],
            "run again": ["run", "demo", root],
            "status": ["status", "demo", root],
        }.items():
            print(f"{name:<16} {_measured(command, slurm)}", flush=True)
        _let_most_be_done(Path(folder) / "runs", slurm)
        print(f"{'status, later':<16} {_measured(['status', 'demo', root], slurm)}", flush=True)


def _let_most_be_done(root: Path, slurm: ToySlurm) -> None:
    """Nine steps of ten are done, and of the others every second one was running when the time limit killed its job."""
    session = Session((f"root={root}",), Console(quiet=True), name="demo")
    store, steps = session.store, session.graph.steps
    jobs = {step: job for each in Journal(store.root).read() for step, job in each.jobs.items()}
    done = len(steps) * 9 // 10
    killed = steps[done::2]
    for step in steps[:done]:
        make(store, step, _attempt(step, jobs[step.id], store, ended=True))
    for step in killed:
        store.register((step,))
        own = store.of(step).attempt(1)
        assert own.take(_attempt(step, jobs[step.id], store, ended=False))
        log_of(store.jobs, jobs[step.id]).write_text("loading\n" * 100)
    queued = {jobs[step.id].id for step in steps[done:]} - {jobs[step.id].id for step in killed}
    over = sorted({job.id for job in jobs.values()} - queued)
    slurm.end(*over)
    slurm.account(over, "TIMEOUT")


def _attempt(step: Step, job: JobRef, store: Store, ended: bool) -> Attempt:
    """One that took ten seconds, up to the job's submission; or one of a job that left no record."""
    return Attempt(
        job=job,
        host="n1",
        ranks=step.ranks,
        commit=None,
        log=str(log_of(store.jobs, job)),
        start=stamp(job.started - 10),
        end=stamp(job.started) if ended else None,
        cause="done" if ended else None,
        allocation=Allocation(job.started - 11, step.ranks, 0),
    )


def _measured(command: Sequence[str], slurm: ToySlurm) -> str:
    """Seconds, peak memory and calls of one command."""
    before = {name: len(slurm.calls(name)) for name in SLURM}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "msm_hpc", *command],
        env=os.environ | {"PATH": slurm.path()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, said[-2000:]
    wall, cpu = time.monotonic() - began, used.ru_utime + used.ru_stime
    counts = {name: len(slurm.calls(name)) - before[name] for name in SLURM}
    calls = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    steps = next((line.strip() for line in said.splitlines() if " steps" in line), "")
    return f"{wall:>6.1f}s {cpu:>6.1f}s {used.ru_maxrss / 1024:>5.0f} MB  {calls:<40} {steps[:60]}"


if __name__ == "__main__":
    main()
