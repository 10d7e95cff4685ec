"""A queue that answers sbatch, squeue and scancel: jobs stay pending until a test ends them; nothing ever runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from msm_hpc.campaign import slurm_run
from msm_hpc.launch import slurm_commands

SBATCH = r"""
script=$(cat)
field() { printf '%s\n' "$script" | sed -n "s/^#SBATCH --$1=//p"; }
for refused in $(sed -n 1p refuses); do
  if printf '%s\n%s\n' "$script" "$*" | grep -q -e "$refused"; then
    sed -n 2p refuses >&2; exit 1
  fi
done
case "$*" in *--test-only*) exit 0;; esac
sleep "$(cat seconds)"
array=$(field array) last=${array#0-} last=${last%%%*}
if [ $(($(wc -l < queue) + ${last:-0} + 1)) -gt "$(cat most)" ]; then
  echo "sbatch: error: AssocMaxSubmitJobLimit" >&2; exit 1
fi
job=$(($(wc -l < submitted) + 64))
comment=$(field comment)
echo "$job $comment $(field job-name) $(field dependency)" >> submitted
if [ -z "$array" ]; then echo "$job $comment" >> queue; else
  seq -f "${job}_%.0f $comment" 0 "$last" >> queue; fi
echo "Submitted batch job $job"
"""
SQUEUE = """
case "$*" in
  *%k*) sed 's/_[0-9]* / /' queue | sort -u;;
  *)
    awk 'FILENAME == "started" { started[$1]; next }
         { print $1 ($1 in started ? "|RUNNING|None" : "|PENDING|Priority") }' started queue;;
esac
"""
SCANCEL = r"""
for job; do sed -i "/^$job[_ ]/d" queue; done
"""


@dataclass(frozen=True)
class ToySlurm:
    """``submitted`` and ``queue`` are files of a line for each array, and for each job that has not ended."""

    folder: Path

    @classmethod
    def start(cls, folder: Path) -> ToySlurm:
        """Write the commands, which the caller puts into the PATH."""
        folder.mkdir()
        for name, body in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL, "scontrol": "", "sinfo": ""}.items():
            (folder / name).write_text(f'#!/bin/sh\ncd {folder}\necho "{name} $*" >> calls\n{body}')
            (folder / name).chmod(0o755)
        for name in ("submitted", "queue", "calls", "refuses", "started"):
            (folder / name).touch()
        (folder / "seconds").write_text("0")
        (folder / "most").write_text("99999")
        return cls(folder)

    def submitted(self) -> list[list[str]]:
        """The id, token, name and dependency of each array, in the order of submission."""
        return [line.split(" ") for line in (self.folder / "submitted").read_text().splitlines()]

    def queue(self) -> list[str]:
        """The ids of all jobs that have not ended."""
        return [line.split()[0] for line in (self.folder / "queue").read_text().splitlines()]

    def calls(self, name: str) -> list[str]:
        """The arguments of each call of a command."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]

    def end(self, *jobs: str) -> None:
        """Let jobs end."""
        left = [line for line in (self.folder / "queue").read_text().splitlines() if line.split()[0] not in jobs]
        (self.folder / "queue").write_text("".join(f"{line}\n" for line in left))

    def start_job(self, *jobs: str) -> None:
        """Let jobs start, now or as soon as they are queued, so that they wait no more."""
        (self.folder / "started").write_text("".join(f"{job}\n" for job in jobs))

    def refuse(self, what: str, reason: str) -> None:
        """From now on sbatch refuses scripts and options in which the word ``what`` is."""
        (self.folder / "refuses").write_text(f"{what}\n{reason}\n")

    def slow(self, seconds: float) -> None:
        """Let sbatch take its time."""
        (self.folder / "seconds").write_text(str(seconds))

    def limit(self, most: int) -> None:
        """From now on sbatch refuses what would make more than so many jobs queued."""
        (self.folder / "most").write_text(str(most))

    def account(self, jobs: Iterable[str], state: str) -> None:
        """From now on there is an sacct, which knows that these jobs ended in a ``state``, with a step of theirs."""
        rows = [f"{part}|{state}|0:0|n1||" for job in jobs for part in (job, f"{job}.batch", f"{job}.0")]
        (self.folder / "accounts").write_text("".join(f"{row}\n" for row in rows))
        (self.folder / "sacct").write_text(f'#!/bin/sh\ncd {self.folder}\necho "sacct $*" >> calls\ncat accounts\n')
        (self.folder / "sacct").chmod(0o755)

    def path(self) -> str:
        """A PATH with these commands first."""
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def in_the_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    """While this is open, the only Slurm that is found is a new one in ``folder``."""
    toy = ToySlurm.start(folder)
    monkeypatch.setenv("PATH", toy.path())
    monkeypatch.setattr(slurm_run, "SECONDS_UNTIL_ANSWERED", 0.0)
    slurm_commands.settings.cache_clear()
    yield toy
    slurm_commands.settings.cache_clear()
