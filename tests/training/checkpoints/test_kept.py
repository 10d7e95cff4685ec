"""Weights that one training of a job leaves to the next: equal bits, and no file of weights is read."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from msm_hpc.config.training import Layout, Lora, TrainConfig, TrainInputs
from msm_hpc.launch.ranks import Ranks
from msm_hpc.training.checkpoints.kept import Label, keep, kept_weights, know, weights_kept
from msm_hpc.training.stage import run
from tests.training.ranks import call_in_ranks
from tests.training.toy import Corpus, read_checkpoint, read_exact, write_inputs

CONFIG = TrainConfig(
    sequence_length=32, global_batch_size=4, micro_batch_size=2, learning_rate=1e-2, precision="bf16", save_every=1000
)
OTHER = replace(CONFIG, seed=1)
ENOUGH = 1e9
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> TrainInputs:
    """What trainings read that start from a training before them."""
    root = tmp_path_factory.mktemp("parent")
    inputs = write_inputs(root / "inputs", Corpus(documents=12))
    return replace(inputs, checkpoint=train(CONFIG, inputs, root / "midtrained"))


def train(config: TrainConfig, inputs: TrainInputs, out: Path) -> Path:
    out.mkdir()
    run(config, inputs, out)
    return out


def weights_of(inputs: TrainInputs) -> Path:
    """The checkpoint whose weights are kept."""
    start = inputs.base or inputs.checkpoint
    assert start
    return start / "checkpoint"


@contextlib.contextmanager
def gone(checkpoint: Path) -> Iterator[None]:
    """While this is open, the files of weights cannot be found."""
    hidden = [file.rename(file.with_suffix(".hidden")) for file in checkpoint.glob("*.distcp")]
    assert hidden
    try:
        yield
    finally:
        for file in hidden:
            file.rename(file.with_suffix(".distcp"))


def same(one: Path, other: Path) -> bool:
    """Whether two trainings have equal bits, of every step and at the end."""
    weights, others = (read_checkpoint(each / "checkpoint") for each in (one, other))
    equal = weights.keys() == others.keys() and all(torch.equal(others[key], each) for key, each in weights.items())
    return equal and read_exact(one) == read_exact(other)


def test_the_second_training_reads_and_draws_no_weights_and_has_equal_bits(
    tmp_path: Path, parent: TrainInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = train(OTHER, parent, tmp_path / "alone")
    with weights_kept(ENOUGH):
        assert not know(weights_of(parent), "parent", lambda: None)
        train(CONFIG, parent, tmp_path / "first")
        with gone(weights_of(parent)), monkeypatch.context() as patched:
            patched.setattr(torch.nn.init, "normal_", lambda *given, **named: pytest.fail("weights are drawn"))
            assert know(weights_of(parent), "parent", lambda: pytest.fail("weights are read"))
            assert same(train(OTHER, parent, tmp_path / "second"), alone)


def test_of_another_parent_the_weights_are_read_and_kept(tmp_path: Path, parent: TrainInputs) -> None:
    alone = train(OTHER, parent, tmp_path / "alone")
    other = replace(parent, checkpoint=alone)
    expected = train(CONFIG, other, tmp_path / "expected")
    with weights_kept(ENOUGH):
        know(weights_of(parent), "parent", lambda: None)
        train(OTHER, parent, tmp_path / "first")
        assert not know(weights_of(other), "other", lambda: pytest.fail("its files were hashed at once"))
        train(CONFIG, other, tmp_path / "second")
        with gone(weights_of(other)):
            assert know(weights_of(other), "other", lambda: None)
            assert same(train(CONFIG, other, tmp_path / "third"), expected)
        assert not know(weights_of(parent), "parent", lambda: None), "only the last is kept"


def test_in_another_precision_the_weights_are_checked_and_read(tmp_path: Path, parent: TrainInputs) -> None:
    exact = replace(CONFIG, precision="fp32")
    alone, checked = train(exact, parent, tmp_path / "alone"), []
    with weights_kept(ENOUGH):
        know(weights_of(parent), "parent", lambda: None)
        train(CONFIG, parent, tmp_path / "first")
        assert know(weights_of(parent), "parent", lambda: checked.append("hashed"))
        assert same(train(exact, parent, tmp_path / "second"), alone)
    assert checked == ["hashed"]


def test_of_the_trainings_of_adapters_the_base_is_kept(
    tmp_path: Path, parent: TrainInputs, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(CONFIG, lora=Lora(rank=2, alpha=4))
    first = replace(parent, base=parent.checkpoint, checkpoint=None)
    further = replace(first, checkpoint=train(config, first, tmp_path / "adapter"))
    alone = train(config, further, tmp_path / "alone")
    caplog.set_level(logging.INFO, "msm_hpc")
    with weights_kept(ENOUGH):
        for name in ("first", "second"):
            caplog.clear()
            know(weights_of(first), "base", lambda: None)
            assert not know(tmp_path / "adapter/checkpoint", "adapter", lambda: None)
            assert same(train(config, further, tmp_path / name), alone)
    assert f"the weights of {weights_of(first)} are in memory" in caplog.text


def test_what_takes_too_much_memory_is_not_kept(tmp_path: Path, parent: TrainInputs) -> None:
    with weights_kept(memory=100_000.0):
        know(weights_of(parent), "parent", lambda: None)
        train(CONFIG, parent, tmp_path / "first")
        assert not know(weights_of(parent), "parent", lambda: None)


def test_what_was_left_half_written_is_not_used() -> None:
    label, other = Label("parent", "part"), Label("other", "part")
    with weights_kept(ENOUGH):
        keep(label, 5, lambda file: _write(file, b"whole"))
        path = kept_weights(label)
        assert path and Path(path).read_bytes() == b"whole"
        child = os.fork()
        if not child:
            keep(other, 5, lambda file: (_write(file, b"ha"), os._exit(9)))
        os.waitpid(child, 0)
        assert kept_weights(label) is None and kept_weights(other) is None
    assert kept_weights(label) is None


def _write(file: str, content: bytes) -> None:
    with open(file, "wb") as opened:
        opened.write(content)


@pytest.mark.slow  # three trainings of two ranks each
def test_each_rank_keeps_its_part_and_all_read_where_one_has_none(tmp_path: Path, parent: TrainInputs) -> None:
    (tmp_path / "inputs.pickle").write_bytes(pickle.dumps(parent))
    call_in_ranks(tmp_path, 2, train_three, tmp_path)
    assert same(tmp_path / "second", tmp_path / "first") and same(tmp_path / "third", tmp_path / "first")
    assert [path.name for path in tmp_path.glob("checked-*")] == ["checked-third"]


def train_three(folder: str) -> None:
    """On each of two ranks: the files are gone in the second training, and rank 1 has nothing kept in the third."""
    root, rank = Path(folder), int(os.environ["RANK"])
    inputs: TrainInputs = pickle.loads((root / "inputs.pickle").read_bytes())
    with weights_kept(ENOUGH):
        for name in ("first", "second", "third"):
            if name == "third" and rank == 1:
                keep(Label("nothing", ""), 10**12, lambda file: None)
            hidden = gone(weights_of(inputs)) if (name, rank) == ("second", 0) else contextlib.nullcontext()
            with hidden:
                child = FORK.Process(target=_train_one, args=(inputs, root, name))
                child.start()
                child.join()
            assert child.exitcode == 0


def _train_one(inputs: TrainInputs, root: Path, name: str) -> None:
    rank = int(os.environ["RANK"])
    meeting = Ranks(rank, 2, rank, "127.0.0.1", "this", root).environment(name)
    os.environ.update(meeting, TORCHELASTIC_USE_AGENT_STORE="False")
    know(weights_of(inputs), "parent", (root / f"checked-{name}").touch)
    (root / name).mkdir(exist_ok=True)
    run(replace(CONFIG, layout=Layout(tensor_parallel=2)), inputs, root / name)
