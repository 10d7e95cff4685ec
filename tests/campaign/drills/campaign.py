"""A campaign in a folder of its own, run with the real ``msm`` on the real Slurm, and what is asked of it in drills."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil

from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.journal import Journal
from msm_hpc.store.leases import leases
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.campaign.drills.stages import hold_file, run_steps
from tests.campaign.held import check_ledger
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config
from tests.slurm_tools import processes

SECONDS = 90
PREPARED = ("generate", "tokenize", "pack", "model", "pretrain")
"""The stages of what is made once for all drills."""
Causes = Mapping[str, list[str | None]]
"""How the tries at steps ended."""
OVERRIDES = (
    *SHRUNK,
    "campaign.arms=[base,msm+aft]",
    "campaign.specs=[{name: america}]",
    "campaign.contrast=[]",
    "campaign.seeds=[0,1]",
    "stages.pretrain.layout.data_parallel=1",
    "cluster=slurm",
    "cluster.ranks_per_node=1",  # so that trainings alike share a job
    "cluster.resources.cpu.memory_gb=1",
    "cluster.resources.cpu.time_minutes=5",
)


@dataclass(frozen=True)
class Campaign:
    """The campaign of the drills below ``root``, with ``more`` overrides."""

    root: Path
    more: tuple[str, ...] = ()

    @cached_property
    def graph(self) -> Graph:
        """Its steps."""
        return graph_of(load_config([*OVERRIDES, *self.more, f"root={self.root}"]))

    @property
    def store(self) -> Store:
        """Where they are made."""
        return Store(self.root)

    def of(self, name: str) -> StepFolder:
        """The folder of a step, by its name."""
        return self.store.of(self.graph.find(name))

    def tries(self, name: str) -> list[Attempt]:
        """The attempts at a step."""
        return self.of(name).attempts()

    # -- what a person does ----------------------------------------------------------------------------

    def msm(self, command: str, *arguments: str, code: int = 0) -> str:
        """What a command about it says, which ends with ``code``."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ended = main([command, *arguments, *OVERRIDES, *self.more, f"root={self.root}"])
        assert ended == code, said.getvalue()
        return said.getvalue()

    def run(self, code: int = 0) -> str:
        """``msm run``."""
        return self.msm("run", code=code)

    def queue(self) -> dict[str, str]:
        """The states of its queued and running jobs by their ids."""
        tokens = {each.token for each in Journal(self.root).read()}
        command = ["squeue", "--noheader", "--array", "--format=%i|%T|%k"]
        rows = [line.split("|") for line in _output(*command).splitlines()]
        return {job: state for job, state, comment in rows if tokens.intersection(comment.split())}

    # -- what a drill does -----------------------------------------------------------------------------

    def hold(self, *names: str, word: str = "") -> None:
        """Have trainings stand still half-way."""
        for name in names:
            file = hold_file(self.root, self.graph.find(name).id)
            file.parent.mkdir(exist_ok=True)
            file.write_text(word)

    def release(self, *names: str) -> None:
        """Let these go on, or all that are held."""
        for name in names or [step.name for step in self.graph.steps]:
            hold_file(self.root, self.graph.find(name).id).unlink(missing_ok=True)

    def until(self, happened: Callable[[], object], seconds: float = SECONDS) -> None:
        """Wait until something has happened."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"{_output('squeue')}\n{_output('sinfo')}\n{self.tried()}"
            time.sleep(0.1)

    def until_held(self, *names: str, tries: int = 1) -> None:
        """Wait until the trainings stand still, in the attempt of that number."""
        for name in names:
            self.until(lambda: self._stands(name, tries))  # noqa: B023

    def until_over(self) -> None:
        """Wait until no job of it is left."""
        self.until(lambda: not self.queue())

    def job(self, name: str) -> str:
        """The job that makes a step, or did so last."""
        return self.tries(name)[-1].job.id

    def queued(self, name: str) -> str:
        """The job that a step is queued in."""
        return leases([self.graph.find(name)], self.store)[self.graph.find(name).identity].id

    def processes(self, name: str) -> list[psutil.Process]:
        """Those of the rank that makes a step now, the one that makes it last."""
        job = subprocess.run(["scontrol", "--oneliner", "show", "job", self.job(name)], capture_output=True, text=True)
        number = job.stdout.partition("JobId=")[2].partition(" ")[0]
        found = processes(SLURM_JOB_ID=number, SLURM_PROCID="0")
        return [each for each in found if "python" in each.name()]

    # -- what comes out --------------------------------------------------------------------------------

    def results(self) -> Mapping[str, object]:
        """The hashes of all files of all results, by the name of their step."""
        published = {step.name: self.store.of(step).published for step in self.graph.steps}
        return {name: dict(each.files) if each else None for name, each in published.items()}

    def causes(self) -> Causes:
        """How the tries ended at each step that was begun more than once: without its inputs it was not."""
        tried = {step.name: [each.cause for each in self.store.of(step).attempts()] for step in self.graph.steps}
        begun = {name: [cause for cause in causes if cause != "upstream"] for name, causes in tried.items()}
        return {name: causes for name, causes in begun.items() if len(causes) > 1}

    def check(self, undisturbed: Mapping[str, object], causes: Causes, held: bool = True) -> None:
        """Wait for its end: it is that of an undisturbed campaign, and only steps with these causes were begun again.

        Nothing is left to submit, and where Slurm ``held`` its accounts, the ledger agrees with them.
        """
        self.until_over()
        assert self.results() == undisturbed, self.tried()
        assert self.causes() == causes, self.tried()
        assert "Nothing to submit" in self.run()
        assert not self.queue()
        if held:
            check_ledger(self.graph.steps, self.store)

    def _stands(self, name: str, tries: int) -> bool:
        folders = self.of(name).attempt_folders()
        progress = folders[-1].progress if len(folders) == tries else None
        return progress is not None and progress.done >= 4

    def tried(self) -> str:
        tried = {step.name: self.store.of(step).attempts() for step in self.graph.steps if step.stage not in PREPARED}
        return "\n".join(f"{name}: {[(each.cause, each.message) for each in tries]}" for name, tries in tried.items())


def copied(prepared: Path, root: Path, *more: str) -> Campaign:
    """A campaign of which what is made once is there."""
    shutil.copytree(prepared, root)
    return Campaign(root, more)


def made_here(campaign: Campaign, steps: Sequence[Step]) -> None:
    """Make steps without Slurm, one after another in a process of their own."""
    campaign.store.register(tuple(steps))
    process = multiprocessing.get_context("fork").Process(target=_make, args=(campaign.root, steps))
    process.start()
    process.join()
    assert all(map(campaign.store.done, steps))


def _make(root: Path, steps: Sequence[Step]) -> None:
    for step in steps:
        run_steps(str(root), step.id)


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
