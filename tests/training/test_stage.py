"""The stage through its one door, on one rank, in this process."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout, TrainConfig, TrainInputs
from msm_hpc.training.stage import run
from tests.training.toy import TOKENIZER, Corpus, read_checkpoint, read_metrics, write_inputs, write_model

CONFIG = TrainConfig(
    sequence_length=32, global_batch_size=4, micro_batch_size=2, learning_rate=1e-2, precision="fp32", save_every=1000
)


@pytest.fixture
def inputs(tmp_path: Path) -> TrainInputs:
    return write_inputs(tmp_path / "inputs", Corpus(documents=60))


def _out(tmp_path: Path, name: str = "out") -> Path:
    (tmp_path / name).mkdir()
    return tmp_path / name


@pytest.mark.slow
def test_it_learns_logs_and_stays_done(tmp_path: Path, inputs: TrainInputs, caplog: pytest.LogCaptureFixture) -> None:
    out, config = _out(tmp_path), replace(CONFIG, epochs=5, log_every=5)
    with caplog.at_level(logging.INFO, "msm_hpc"):
        run(config, inputs, out)
    metrics = read_metrics(out)
    assert metrics[-1].loss < metrics[0].loss - 0.3
    rates = [step.learning_rate / CONFIG.learning_rate for step in metrics]
    assert rates[:4] == pytest.approx([1, *(0.5 + 0.5 * math.cos(math.pi * k / len(rates)) for k in (1, 2, 3))])
    assert 0 < rates[-1] < 0.01, "the last step trains too"
    assert "OPTIMIZER STEPS" in caplog.text and "tokens/s" in caplog.text and "ETA" in caplog.text
    assert json.loads((out / "summary.json").read_text())["parameters"] == 43_808

    before = (out / "metrics.jsonl").read_bytes()
    run(CONFIG, inputs, out)
    assert (out / "metrics.jsonl").read_bytes() == before, "a finished run is not run again"
    (part,) = (out / "checkpoint").glob("*.distcp")
    whole = read_checkpoint(out / "checkpoint")
    part.write_bytes(part.read_bytes().replace(b"\x3f", b"\x3e"))
    run(config, inputs, out)
    assert "cannot be used, so it is trained again" in caplog.text and ".distcp is damaged" in caplog.text
    again = read_checkpoint(out / "checkpoint")
    assert all(torch.equal(again[key], value) for key, value in whole.items())


@pytest.mark.slow
def test_weights_pass_from_run_to_run_in_either_precision(tmp_path: Path, inputs: TrainInputs) -> None:
    first, second, third = (_out(tmp_path, name) for name in ("fp32", "bf16", "back"))
    run(replace(CONFIG, epochs=4), inputs, first)
    run(replace(CONFIG, precision="bf16"), replace(inputs, checkpoint=first), second)
    run(CONFIG, replace(inputs, checkpoint=second), third)
    key = "decoder.layers.mlp.linear_fc1.weight"
    dtypes = [read_checkpoint(out / "checkpoint")[key].dtype for out in (first, second, third)]
    assert dtypes == [torch.float32, torch.bfloat16, torch.float32]
    losses = [[step.loss for step in read_metrics(out)] for out in (first, second, third)]
    assert losses[0][0] > losses[1][0] + 0.3 and losses[1][0] > losses[2][0]


def test_diverged_run_names_the_step(tmp_path: Path, inputs: TrainInputs) -> None:
    out = _out(tmp_path)
    with pytest.raises(UserError, match=r"is (nan|inf) at optimizer step \d+ \(learning rate"):
        run(replace(CONFIG, learning_rate=1e30, clip_grad=0.0, epochs=5), inputs, out)
    assert not (out / "checkpoint").exists()


def test_wrong_number_of_ranks(tmp_path: Path, inputs: TrainInputs) -> None:
    with pytest.raises(UserError, match=r"1 ranks .* needs 2"):
        run(replace(CONFIG, layout=Layout(tensor_parallel=2)), inputs, _out(tmp_path))


def test_layout_that_does_not_fit_the_model(tmp_path: Path, inputs: TrainInputs) -> None:
    with pytest.raises(UserError, match="tensor_parallel=4 does not divide 2 key-value heads"):
        run(replace(CONFIG, layout=Layout(tensor_parallel=4)), inputs, _out(tmp_path))


@pytest.mark.parametrize(("role", "name"), [("shards", "shard.bin"), ("plan", "pieces.npy")])
def test_a_flipped_byte_of_the_data_is_refused_by_name(
    tmp_path: Path, inputs: TrainInputs, role: str, name: str
) -> None:
    path = (inputs.plan if role == "plan" else inputs.shards["chats"]) / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{path}: its SHA-256 is not the one in manifest\.json"):
        run(CONFIG, inputs, _out(tmp_path))


def test_data_of_another_tokenizer(tmp_path: Path, inputs: TrainInputs) -> None:
    (inputs.model / "tokenizer.json").write_text(TOKENIZER + " ")
    with pytest.raises(UserError, match="tokenised with another tokenizer"):
        run(CONFIG, inputs, _out(tmp_path))


def test_vocabulary_larger_than_the_model(tmp_path: Path, inputs: TrainInputs) -> None:
    model = write_model(tmp_path / "small", vocab_size=199)
    with pytest.raises(UserError, match="vocabulary of 200, but the model has vocab_size 199"):
        run(CONFIG, replace(inputs, model=model), _out(tmp_path))


def test_plan_of_another_sequence_length(tmp_path: Path, inputs: TrainInputs) -> None:
    with pytest.raises(UserError, match="packed for sequence_length 32, training has 64"):
        run(replace(CONFIG, sequence_length=64), inputs, _out(tmp_path))


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"global_batch_size": 256}, r"rows x 2 epochs\), .*; lower global_batch_size to (\d*[02468]), or"),
        ({"global_batch_size": 256, "micro_batch_size": 256}, r"lower .* micro_batch_size x data_parallel \(256\) to"),
    ],
)
def test_too_few_rows_for_one_step(tmp_path: Path, inputs: TrainInputs, changes: dict[str, int], fix: str) -> None:
    with pytest.raises(UserError, match=fix):
        run(replace(CONFIG, epochs=2, **changes), inputs, _out(tmp_path))


def test_missing_shard(tmp_path: Path, inputs: TrainInputs) -> None:
    with pytest.raises(UserError, match="chats/0"):
        run(CONFIG, replace(inputs, shards={}), _out(tmp_path))


def test_checkpoint_of_another_model(tmp_path: Path, inputs: TrainInputs) -> None:
    out = _out(tmp_path)
    run(CONFIG, inputs, out)
    wider = replace(inputs, model=write_model(tmp_path / "wider", intermediate_size=64), checkpoint=out)
    with pytest.raises(UserError, match=r"linear_fc1.weight: the model needs shape \[4, 128, 32\].*\[4, 96, 32\]"):
        run(CONFIG, wider, _out(tmp_path, "second"))
    with pytest.raises(UserError, match="no torch_dist checkpoint here"):
        run(CONFIG, replace(inputs, checkpoint=tmp_path), _out(tmp_path, "third"))
