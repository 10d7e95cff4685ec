"""Ranks that are signalled, killed, stopped or fed with damage: what the others do, and what is left."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msm_hpc.config.training import Layout, TrainInputs
from tests.training.ranks import Job, do_all, start_ranks
from tests.training.toy import TWO_RANKS, Corpus, read_checkpoint, read_exact, read_metrics, write_inputs
from tokenization.packing.plan import Plan
from tokenization.shards import Shard

SEVERAL_MICRO_BATCHES = replace(TWO_RANKS, micro_batch_size=2)
"""Two a step and rank, so that it shows which of them is named."""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("faults")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and in ``unbroken`` a run that nothing happened to."""
    root = tmp_path_factory.mktemp("faults")
    do_all(root, 2, [Job(TWO_RANKS, write_inputs(root, Corpus(documents=90)), root / "unbroken")])
    return root


def _job(root: Path, name: str, **fields: object) -> Job:
    inputs = TrainInputs(model=root / "model", plan=root / "plan", shards={"chats": root / "shard"})
    return Job(TWO_RANKS, inputs, root / name, **fields)


def _resume_checkpoints(job: Job) -> list[str]:
    return sorted(path.name for path in (job.out / "resume").iterdir())


def _is_as_unbroken(root: Path, job: Job) -> None:
    assert read_exact(job.out) == read_exact(root / "unbroken")
    expected, found = (read_checkpoint(out / "checkpoint") for out in (root / "unbroken", job.out))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGINT])
def test_a_signal_to_one_rank_stops_all_at_one_step_and_the_next_run_goes_on_bit_for_bit(
    root: Path, number: signal.Signals
) -> None:
    job = _job(root, f"warned-{number.name}", hit=(3, 1, number))
    ended = start_ranks(root, 2, [job])
    for error in ended.errors:
        assert re.search(
            rf"StoppedBySignalError: {number.name} asked the run to stop: 4 of \d+ optimizer steps are done and saved",
            error,
        )
    assert _resume_checkpoints(job) == ["step-000000003", "step-000000004"]
    assert len(read_metrics(job.out)) == 4

    do_all(root, 2, [replace(job, hit=None)])
    _is_as_unbroken(root, job)


@pytest.mark.parametrize(("rank", "number"), [(1, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_a_rank_that_dies_or_stops_is_named_by_the_other(root: Path, rank: int, number: signal.Signals) -> None:
    job = _job(root, f"lost-{number.name}", hit=(2, rank, number))
    ended = start_ranks(root, 2, [job], alone=True)
    assert ended.codes[rank] == -signal.SIGKILL, "a stopped rank is killed"
    assert ended.codes[1 - rank] not in (0, -signal.SIGKILL)
    assert re.search(rf"RankLostError: rank {rank} \(host .*, process \d+\) has given no sign", ended.errors[1 - rank])


def test_a_stopped_rank_0_is_named_although_it_holds_the_store(root: Path) -> None:
    job = _job(root, "lost-store", hit=(2, 0, signal.SIGSTOP))
    ended = start_ranks(root, 2, [job], alone=True, rank_0_holds_store=True)
    assert ended.codes[0] == -signal.SIGKILL
    assert re.search(r"RankLostError: rank 0 \(host .*which holds the job's store, has not answered", ended.errors[1])


def test_a_kill_in_the_middle_of_writing_leaves_the_checkpoint_before(root: Path) -> None:
    job = _job(root, "torn", kill_saving=6)
    assert start_ranks(root, 2, [job]).codes == [-9, -9]
    assert _resume_checkpoints(job) == [".step-000000006.partial", "step-000000003"]
    do_all(root, 2, [replace(job, kill_saving=None)])
    _is_as_unbroken(root, job)


def test_other_samples_behind_a_resume_checkpoint_are_refused(root: Path) -> None:
    job = _job(root, "reordered", kill_at=7)
    start_ranks(root, 2, [job])
    ended = start_ranks(root, 2, [replace(job, config=replace(TWO_RANKS, seed=1), kill_at=None)])
    said = r"step-00000000\d: its \d optimizer steps used other samples"
    assert all(re.search(said, error) for error in ended.errors)


def test_a_loss_that_is_not_finite_names_step_rank_and_samples(root: Path) -> None:
    token, poisoned = _poison(root)
    ended = start_ranks(root, 2, [replace(_job(root, "poisoned", poisoned=token), config=SEVERAL_MICRO_BATCHES)])
    for error in ended.errors:
        said = r"DivergedError: loss is nan at optimizer step \d+ \(learning .*\); rank \d, micro-batch \d: loss nan"
        assert re.search(said, error)
    logged = re.findall(r"step \d+ rank ([01]) micro-batch [01] loss (\S+): (.*)", ended.errors[0])
    assert [rank for rank, _, _ in logged].count("1") == 2 == len(logged) - 2
    assert [loss == "nan" for _, loss, _ in logged] == [bool(poisoned & set(ids.split())) for _, _, ids in logged]


def test_context_parallel_ranks_give_one_loss_of_their_micro_batch(root: Path) -> None:
    token, poisoned = _poison(root)
    job = _job(root, "poisoned_context", poisoned=token)
    ended = start_ranks(
        root, 2, [replace(job, config=replace(SEVERAL_MICRO_BATCHES, layout=Layout(context_parallel=2)))]
    )
    logged = re.findall(r"step \d+ rank (\d) micro-batch ([0-3]) loss (\S+): (.*)", ended.errors[0])
    assert sorted((rank, number) for rank, number, _, _ in logged) == [("0", number) for number in "0123"]
    assert [loss == "nan" for *_, loss, _ in logged] == [bool(poisoned & set(ids.split())) for *_, ids in logged]


def _poison(root: Path) -> tuple[int, set[str]]:
    """A token of the plan's first document, and all documents in which it is."""
    shard = Shard(root / "shard")
    token = int(shard.tokens(Plan(root / "plan").row(0)[0].document)[0])
    return token, {f"chats/0#{number}" for number in range(len(shard)) if token in shard.tokens(number)}


def test_spikes_are_left_out_where_the_config_says_so(root: Path) -> None:
    job = _job(root, "skipping", poisoned=_poison(root)[0])
    do_all(root, 2, [replace(job, config=replace(TWO_RANKS, skip_spikes=True))])
    skipped = [step.step for step in read_metrics(job.out) if step.skipped]
    assert skipped and len(skipped) < len(read_metrics(job.out))
    assert json.loads((job.out / "summary.json").read_text())["skipped_steps"] == skipped
