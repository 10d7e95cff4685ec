"""``msm cancel``: what is cancelled, what is left and said to be, and that ``msm run`` continues."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.launch.job import JobRef
from msm_hpc.store.journal import Journal
from msm_hpc.store.store import Store
from tests.toy_slurm import ToySlurm, in_the_path

SMALL = ("campaign.seeds=[0]", "campaign.arms=[init,base]", "cluster=slurm")
LARGER = ("campaign.seeds=[0]", "campaign.arms=[init,base,msm]", "cluster=slurm", "campaign.name=larger")
Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToySlurm]:
    with in_the_path(tmp_path / "slurm", monkeypatch) as toy:
        yield toy


@pytest.fixture
def msm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def call(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, f"root={tmp_path / 'runs'}"])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def submit(msm: Ask, *overrides: str) -> None:
    code, said = msm("run", "campaign=demo", *overrides)
    assert code == 0, said


def test_all_jobs_go_with_one_scancel_and_run_continues(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *SMALL)
    queued = slurm.queue()
    slurm.start_job(queued[0])
    code, said = msm("cancel", "demo", "--yes")
    assert code == 0 and f"Cancelled {len(queued)} jobs" in said
    assert " 1 running" in said and "generate/tokenizer" in said
    assert slurm.queue() == []
    (call,) = slurm.calls("scancel")
    assert set(call.split()) == {"--quiet", *(job for job, *_ in slurm.submitted())}, "whole arrays, by their id"
    assert msm("cancel", "demo", "--yes")[1].startswith("Nothing of demo that you may cancel is queued or running")
    code, said = msm("run", "demo")
    assert code == 0 and "Submitted" in said
    assert len(slurm.queue()) == len(queued)


def test_it_shows_and_asks(msm: Ask, slurm: ToySlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(msm, *SMALL)
    queued = slurm.queue()
    code, said = msm("cancel", "demo")
    assert code == 2 and "no terminal to ask on" in said and "generate/tokenizer" in said
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    answers = iter(["n", "y"])
    monkeypatch.setattr("typer.confirm", lambda question: next(answers) == "y")
    code, said = msm("cancel", "demo")
    assert code == 1 and said.endswith("Nothing was cancelled.\n") and slurm.queue() == queued
    assert msm("cancel", "demo")[0] == 0 and slurm.queue() == []


def test_a_campaign_has_to_be_named(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *SMALL)
    code, said = msm("cancel", "--yes")
    assert code == 2 and "which campaign?" in said
    assert slurm.calls("scancel") == []


def test_jobs_of_the_campaign_as_it_was_before_go_too(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *SMALL)
    submit(msm, *SMALL, "stages.pretrain.learning_rate=1e-3")
    assert msm("cancel", "demo", "--yes")[0] == 0
    assert slurm.queue() == []


def test_what_another_campaign_waits_for_is_left_and_said(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *SMALL)
    shared = slurm.queue()
    submit(msm, *LARGER)
    code, said = msm("cancel", "larger", "--yes")
    assert code == 0 and "campaign demo submitted them; --shared cancels them, too" in said
    assert sorted(slurm.queue()) == sorted(shared)

    submit(msm, *LARGER)
    code, said = msm("cancel", "demo", "--yes")
    assert code == 0 and "campaign larger waits for them; --shared cancels them, too" in said
    left = slurm.queue()
    assert set(left) & set(shared) and set(shared) - set(left), "its own evaluations are gone"
    code, said = msm("cancel", "demo", "--yes", "--shared")
    assert code == 0 and not set(slurm.queue()) & set(shared) and slurm.queue()


def test_a_campaign_that_has_nothing_queued_waits_for_nothing(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *LARGER)
    assert msm("cancel", "larger", "--yes")[0] == 0
    submit(msm, *SMALL)
    code, said = msm("cancel", "demo", "--yes")
    assert code == 0 and "Left" not in said and slurm.queue() == []


def test_another_users_jobs_are_left_and_named(msm: Ask, slurm: ToySlurm, store: Store) -> None:
    submit(msm, *SMALL)
    journal = Journal(store.root)
    first, *others = journal.read()
    journal.rewrite([replace(first, user="ada"), *others])
    code, said = msm("cancel", "demo", "--yes")
    assert code == 0 and "ada must cancel them: `msm cancel` as that user" in said
    assert {job.partition("_")[0] for job in slurm.queue()} == {first.job}


def test_a_process_of_another_host_is_left_and_named(
    msm: Ask, slurm: ToySlurm, store: Store, graph: Callable[..., Graph]
) -> None:
    step = graph(*SMALL).find("generate/tokenizer")
    store.of(step).write_lease(JobRef("local", "7", "not-this-host"))
    code, said = msm("cancel", "campaign=demo", *SMALL, "--yes")
    assert code == 0 and "Left: job 7 of generate/tokenizer: a process of another host cannot be asked about" in said


def test_where_slurm_does_not_answer_nothing_is_cancelled(msm: Ask, slurm: ToySlurm) -> None:
    submit(msm, *SMALL)
    (slurm.folder / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error' >&2; exit 1\n")
    code, said = msm("cancel", "demo", "--yes")
    assert code == 2 and "squeue failed" in said and slurm.calls("scancel") == []


@pytest.mark.slow
def test_a_local_run_is_stopped_with_its_jobs(msm: Ask, store: Store, graph: Callable[..., Graph]) -> None:
    here = ["campaign=demo", "campaign.seeds=[0]", "campaign.arms=[init,base]"]
    program = [sys.executable, "-m", "msm_hpc", "run", *here, f"root={store.root}"]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 120
        while "Cancelled" not in msm("cancel", *here, "--yes")[1]:
            assert run.poll() is None and time.monotonic() < deadline
        assert run.wait(60) == 130 and run.stderr and "the same command resumes" in run.stderr.read()
    ended = [folder.newest() for folder in map(store.of, graph(*here[1:]).steps) if not folder.done]
    assert {attempt.read().cause for attempt in ended if attempt} == {"cancelled"}
    assert "Nothing of demo that you may cancel" in msm("cancel", *here, "--yes")[1]
