"""Rows that are held out: never trained on, and their loss the same by any reading and at any layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import HeldOut, Layout, TrainConfig, TrainInputs
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.data.integrity import content_digest
from msm_hpc.training.data.order import SampleOrder
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.record.metrics import FieldLoss, HeldOutFile
from msm_hpc.training.stage import run
from tests.training.ranks import Job, do_all
from tests.training.toy import Corpus, write_inputs
from tokenization.packing.plan import Plan
from tokenization.shards import Shard

HELD = HeldOut(batches=2, fields=("parity",), every=3)
CONFIG = TrainConfig(
    sequence_length=32,
    global_batch_size=4,
    micro_batch_size=1,
    learning_rate=1e-2,
    precision="fp32",
    adam_eps=1e-6,
    save_every=1000,
    heldout=HELD,
)


@pytest.fixture
def inputs(tmp_path: Path) -> TrainInputs:
    return write_inputs(tmp_path / "inputs", Corpus(documents=60))


def read(out: Path) -> list[FieldLoss]:
    return [FieldLoss(**json.loads(line)) for line in (out / "heldout.jsonl").read_text().splitlines()]


def steps_of(losses: list[FieldLoss]) -> list[int]:
    return sorted({each.step for each in losses})


def by_hand(plan: Plan, shard: Shard, losses: torch.Tensor) -> dict[str | None, tuple[float, int]]:
    """Mean loss and tokens by parity of the held-out documents, and of all, from (rows, sequence_length) losses."""
    found: dict[str | None, list[float]] = {None: [], "even": [], "odd": []}
    for row in SampleOrder(len(plan), 1, 8, HELD.seed).global_batch(0):
        begin = 0
        for piece in plan.row(row):
            mask = shard.loss_mask(piece.document)[piece.start : piece.start + piece.length][1:].astype(bool)
            targets = losses[row, begin : begin + piece.length - 1].numpy()[mask].tolist()
            found[None] += targets
            found[("even", "odd")[piece.document % 2]] += targets
            begin += piece.length
    return {key: (float(np.mean(values)), len(values)) for key, values in found.items()}


@pytest.mark.slow
def test_the_loss_of_each_value_is_that_of_its_tokens_in_the_saved_weights(tmp_path: Path, inputs: TrainInputs) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    out.mkdir()
    run(CONFIG, inputs, out)
    losses = read(out)
    steps = json.loads((out / "summary.json").read_text())["steps"]
    assert steps_of(losses) == sorted({0, *range(3, steps, 3), steps})

    do_all(tmp_path, 1, [Job(CONFIG, replace(inputs, checkpoint=out), whole, "losses")])
    expected = by_hand(Plan(inputs.plan), Shard(inputs.shards["chats"]), torch.load(whole / "losses.pt"))
    last = {each.value: (each.loss, each.tokens) for each in losses if each.step == steps}
    assert last.keys() == expected.keys()
    for value, (loss, tokens) in expected.items():
        assert last[value][0] == pytest.approx(loss, abs=1e-5)
        assert last[value][1] == tokens
    assert {each.field for each in losses} == {None, "parity"}


def test_no_held_out_row_is_trained_on_and_all_others_are(inputs: TrainInputs) -> None:
    with process_groups(Layout()):
        from msm_hpc.training.data.reader import open_data
        from msm_hpc.training.heldout import hold_out

        data = open_data(CONFIG, read_architecture(inputs.model), inputs)
        train, rest = hold_out(data, HELD)
        assert len(rest.plan) == 8 and rest.order.steps == 2
        assert train.order.rows == len(train.plan)
        seen = [part.plan.row(row) for part in (train, rest) for row in range(len(part.plan))]
        assert sorted(seen, key=str) == sorted((data.plan.row(row) for row in range(len(data.plan))), key=str)
        again, other = (hold_out(data, replace(HELD, seed=seed))[1] for seed in (HELD.seed, 1))
        rows = [[part.plan.row(row) for row in range(8)] for part in (rest, again, other)]
        assert rows[0] == rows[1] != rows[2]


def test_a_resume_checkpoint_of_other_held_out_rows_is_another(inputs: TrainInputs) -> None:
    other = [None, replace(HELD, seed=1), replace(HELD, batches=3)]
    one, same, *others = (
        content_digest([inputs.plan], held) for held in (HELD, replace(HELD, fields=(), every=9), *other)
    )
    assert one == same and len({one, *others}) == 4


@pytest.mark.slow
def test_any_layout_measures_the_same(tmp_path: Path, inputs: TrainInputs) -> None:
    one = tmp_path / "one"
    one.mkdir()
    run(CONFIG, inputs, one)
    layouts = {
        "dp": Layout(data_parallel=2),
        "tp": Layout(tensor_parallel=2, sequence_parallel=True),
        "vpp": Layout(pipeline_parallel=2, virtual_pipeline=2),
        "cp": Layout(context_parallel=2),
    }
    config = replace(CONFIG, micro_batch_size=2)
    jobs = [Job(replace(config, layout=layout), inputs, tmp_path / name) for name, layout in layouts.items()]
    do_all(tmp_path, 2, jobs)
    for job in jobs:
        for expected, found in zip(read(one), read(job.out), strict=True):
            assert replace(found, loss=0.0) == replace(expected, loss=0.0), job.out.name
            assert found.loss == pytest.approx(expected.loss, abs=2e-4), job.out.name


@pytest.mark.parametrize(
    ("heldout", "message"),
    [
        (HeldOut(fields=("tone",)), "heldout.fields: no held-out document has 'tone' in its provenance"),
        (
            HeldOut(batches=50),
            r"heldout.batches=50 takes 200 rows \(x global_batch_size 4\) and there are \d+: nothing",
        ),
    ],
)
def test_what_cannot_be_held_out_is_refused(
    tmp_path: Path, inputs: TrainInputs, heldout: HeldOut, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(replace(CONFIG, heldout=heldout), inputs, tmp_path)


def test_delayed_scales_would_follow_held_out_rows() -> None:
    with pytest.raises(UserError, match="heldout is set, and precision is fp8_delayed"):
        replace(CONFIG, precision="fp8_delayed")


def test_a_resumed_file_drops_what_was_measured_later(tmp_path: Path) -> None:
    losses = [FieldLoss(step, None, None, 1.0 / (step + 1), 9) for step in (0, 3, 6)]
    file = HeldOutFile(tmp_path / "heldout.jsonl", 0)
    for each in losses:
        file.append([each])
    HeldOutFile(tmp_path / "heldout.jsonl", 4).append([losses[2]])
    assert read(tmp_path) == losses
    HeldOutFile(tmp_path / "heldout.jsonl", 0).append([losses[0]])
    assert read(tmp_path) == losses[:1]
