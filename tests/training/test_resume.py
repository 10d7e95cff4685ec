"""A killed run, started again, ends with the result of a run that was never killed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from signal import SIGUSR2

import pytest
import torch

from msm_hpc.base.errors import StoppedBySignalError
from msm_hpc.base.progress import read_progress
from msm_hpc.base.stopping import noticed
from msm_hpc.config.training import HeldOut, Layout
from msm_hpc.training.checkpoints.carry_over import carry_over
from msm_hpc.training.stage import run
from tests.training.ranks import Job, do_all, start_ranks
from tests.training.toy import TWO_RANKS, Corpus, read_checkpoint, read_exact, read_metrics, write_inputs

pytestmark = [pytest.mark.slow]


def test_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = replace(TWO_RANKS, save_every=2, heldout=HeldOut(fields=("parity",), every=2))
    inputs = write_inputs(tmp_path, Corpus(documents=100))
    unbroken, killed = (Job(config, inputs, tmp_path / name) for name in ("unbroken", "killed"))

    ended = start_ranks(tmp_path, 2, [unbroken, replace(killed, kill_at=5)])
    assert ended.codes == [-9, -9], ended.errors
    assert (killed.out / "resume" / "step-000000002").is_dir(), "complete since the next one was begun"
    assert len(read_metrics(killed.out)) == 5 and not (killed.out / "summary.json").exists()
    with (killed.out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    shutil.copytree(killed.out / "resume" / "step-000000002", killed.out / "resume" / ".step-000000006.partial")

    moved = shutil.copytree(killed.out, tmp_path / "moved")

    left = {path: path.read_bytes() for path in killed.out.rglob("*") if path.is_file()}
    killed, first = replace(killed, out=tmp_path / "resumed"), killed
    killed.out.mkdir()
    carry_over([first.out], killed.out)
    do_all(tmp_path, 2, [killed])
    assert {path: path.read_bytes() for path in first.out.rglob("*") if path.is_file()} == left, "nothing is in common"
    assert read_exact(killed.out) == read_exact(unbroken.out)
    assert (killed.out / "heldout.jsonl").read_bytes() == (unbroken.out / "heldout.jsonl").read_bytes()
    expected, found = (read_checkpoint(job.out / "checkpoint") for job in (unbroken, killed))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert not (killed.out / "resume").exists()
    progress = read_progress(killed.out)
    assert progress is not None and progress.done == progress.total == len(read_metrics(unbroken.out))
    assert 0 < progress.began < 5, "steps that the first attempt did are not counted for this one"
    assert progress.seconds.keys() == {"load", "training", "held out", "saving"}
    own = sum(step.seconds for step in read_metrics(killed.out)[progress.began :])
    assert progress.seconds["training"] == pytest.approx(own) and min(progress.seconds.values()) > 0
    assert json.loads((killed.out / "summary.json").read_text())["seconds_of_last_attempt"] == progress.seconds

    before = (killed.out / "metrics.jsonl").read_bytes()
    shutil.copytree(killed.out / "checkpoint", killed.out / "resume")
    do_all(tmp_path, 2, [killed])  # finished, but killed before it was published
    assert (killed.out / "metrics.jsonl").read_bytes() == before
    assert not (killed.out / "resume").exists()

    run(replace(config, layout=Layout()), inputs, moved)
    for step, other in zip(read_metrics(unbroken.out), read_metrics(moved), strict=True):
        assert other.loss == pytest.approx(step.loss, abs=2e-3), "resumed with one rank instead of two"


def test_a_signal_that_came_while_the_job_started_stops_the_run_before_its_first_step(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, Corpus(documents=100))
    out = tmp_path / "out"
    out.mkdir()
    with noticed() as request:
        request.note(SIGUSR2, None)
        with pytest.raises(StoppedBySignalError, match=r"SIGUSR2 asked the run to stop: 0 of \d+ optimizer") as stopped:
            run(replace(TWO_RANKS, layout=Layout()), inputs, out)
    assert not stopped.value.progressed and not list(out.iterdir())


def test_a_run_resumes_bit_for_bit_from_the_older_checkpoint_where_the_newest_is_damaged(
    tmp_path: Path,
) -> None:
    config = replace(TWO_RANKS, save_every=2)
    inputs = write_inputs(tmp_path, Corpus(documents=100))
    unbroken, killed = (Job(config, inputs, tmp_path / name) for name in ("unbroken", "killed"))
    start_ranks(tmp_path, 2, [unbroken, replace(killed, kill_at=7)])
    newest, older = (killed.out / "resume" / f"step-00000000{step}" for step in (4, 2))
    assert older.is_dir()
    for part in newest.glob("*.distcp"):
        part.write_bytes(part.read_bytes()[:-1000] + bytes(1000))
    ended = do_all(tmp_path, 2, [killed])
    assert f"{newest} cannot be used, so the one before it is tried" in ended.errors[0]
    assert read_exact(killed.out) == read_exact(unbroken.out)
    expected, found = (read_checkpoint(job.out / "checkpoint") for job in (unbroken, killed))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
