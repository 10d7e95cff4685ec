"""``python -m benchmarks.submission``: what ``msm plan``, ``run`` and ``status`` of a large campaign cost a login node.

Slurm is a stand-in that counts its calls and queues everything, so that its own time is left out. Each command is a
process of its own, as a user starts it; beside it stands ``msm --help``, the time that Python and the imports take.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.toy_slurm import ToySlurm

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
