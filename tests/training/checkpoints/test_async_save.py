"""Resume checkpoints that are written while the state they were taken from changes, on one rank in this process."""

from __future__ import annotations

import errno
import os
import re
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout, TrainInputs
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.checkpoints.hashes import write_hashes
from msm_hpc.training.megatron.groups import process_groups
from tests.training.toy import TWO_RANKS, write_model


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        yield


def build(root: Path) -> Any:
    from msm_hpc.training.stage import build

    config = replace(TWO_RANKS, layout=Layout())
    inputs = TrainInputs(model=root / "model", plan=root / "plan", shards={})
    trainable = build(config, read_architecture(root / "model"), inputs, steps=10)
    for chunk in trainable.wrapped:
        chunk.zero_grad_buffer()
    trainable.optimizer.step()
    return trainable


def saver(trainable: Any, root: Path) -> Any:
    from msm_hpc.training.checkpoints.resume import ResumeSaver

    return ResumeSaver(trainable, root / "resume", str)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "resume").iterdir())


@contextmanager
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until the event is set, nothing is written."""
    from msm_hpc.training.megatron import private

    go, write = threading.Event(), private.write_bucket

    def later(*args: Any) -> None:
        go.wait()
        write(*args)

    with monkeypatch.context() as patched:
        patched.setattr(private, "write_bucket", later)
        try:
            yield go
        finally:
            go.set()


def test_what_changes_during_writing_is_not_in_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from msm_hpc.training.checkpoints.resume import load_resume_checkpoint

    write_model(tmp_path / "model")
    trainable = build(tmp_path)
    masters = [each for group in trainable.optimizer.param_groups for each in group["params"]]
    before = [each.detach().clone() for each in (*masters, *trainable.chunks[0].parameters())]
    saving = saver(trainable, tmp_path)
    with held_up(monkeypatch) as go:
        saving.begin(3)
        for each in (*masters, *trainable.chunks[0].parameters()):
            each.data.add_(1.0)
        assert saving.is_writing and names(tmp_path) == [".step-000000003.partial"]
        go.set()
        saving.finish()
    assert names(tmp_path) == ["step-000000003"] and not saving.is_writing
    assert load_resume_checkpoint(trainable, tmp_path / "resume", str, 99) == 3
    after = [*masters, *trainable.chunks[0].parameters()]
    assert before and all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_older_ones_are_deleted_only_when_the_new_one_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model")
    saving = saver(build(tmp_path), tmp_path)
    for step in (3, 6):
        saving.begin(step)
    with held_up(monkeypatch) as go:
        go.set()
        saving.finish()
        go.clear()
        saving.begin(9)
        assert names(tmp_path) == [".step-000000009.partial", "step-000000003", "step-000000006"]
        go.set()
        saving.finish()
    assert names(tmp_path) == ["step-000000006", "step-000000009"]


def test_a_writer_that_fails_is_reported_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    from msm_hpc.training.checkpoints.resume import load_resume_checkpoint

    write_model(tmp_path / "model")
    trainable = build(tmp_path)
    saving = saver(trainable, tmp_path)
    saving.begin(3)
    saving.finish()
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, usual[1]))  # Python ignores SIGXFSZ: writing fails instead
    try:
        saving.begin(6)
        with pytest.raises(
            UserError, match=r"step-000000006 could not be written \(.* MiB were free; rank 0: .*File too large"
        ):
            saving.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert names(tmp_path) == ["step-000000003"], "what was written has made room"
    assert load_resume_checkpoint(trainable, tmp_path / "resume", str, 99) == 3


def full_disk(*arguments: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["mkdir", "rename"])
def test_a_disk_that_is_full_for_folders_and_names_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    write_model(tmp_path / "model")
    saving = saver(build(tmp_path), tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Path, call, full_disk)
        with pytest.raises(UserError, match=r"step-000000003 could not be written \(.*No space left on device\)"):
            saving.begin(3)
            saving.finish()
    saving.begin(3)
    saving.finish()
    assert names(tmp_path) == ["step-000000003"]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def overwrite(file: Path) -> None:
    """Of the same size, so that only reading shows it."""
    size = file.stat().st_size
    file.write_bytes(b"\xff" * size)


def flip_a_bit(file: Path) -> None:
    """Of a weight, which torch reads without a word."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("*.distcp", cut, r"\.distcp has [\d,]+ bytes, [\d,]+ were written"),
        ("*.distcp", overwrite, r"\.distcp is damaged: its XXH3 is"),
        ("*.distcp", flip_a_bit, r"\.distcp is damaged: its XXH3 is"),
        (".metadata", cut, ".metadata has"),
        ("common.pt", cut, "common.pt has"),
        ("common.pt", Path.unlink, "common.pt: No such file"),
        ("consumed.sha256", Path.unlink, "consumed.sha256: No such file"),
        ("hashes.json", cut, "hashes.json is missing or damaged"),
        ("hashes.json", Path.unlink, "hashes.json is missing or damaged"),
    ],
)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: Callable[[Path], None], reason: str
) -> None:
    from msm_hpc.training.checkpoints.resume import load_resume_checkpoint

    write_model(tmp_path / "model")
    trainable = build(tmp_path)
    masters = [each for group in trainable.optimizer.param_groups for each in group["params"]]
    saving, resume = saver(trainable, tmp_path), tmp_path / "resume"
    before = []
    for step in (3, 6):
        saving.begin(step)
        saving.finish()
        before.append([each.detach().clone() for each in (*masters, *trainable.chunks[0].parameters())])
        for each in masters:
            each.data.add_(1.0)
    damage(next((resume / "step-000000006").glob(file)))
    assert load_resume_checkpoint(trainable, resume, str, 99) == 3
    assert re.search(f"step-000000006 cannot be used, so the one before it is tried: .*{reason}", caplog.text)
    after = [*masters, *trainable.chunks[0].parameters()]
    assert all(torch.equal(old, new) for old, new in zip(before[0], after, strict=True))
    with pytest.raises(UserError, match="steps used other samples"):
        load_resume_checkpoint(trainable, resume, lambda step: "others", 99)
    damage(next((resume / "step-000000003").glob(file)))
    with pytest.raises(
        UserError, match=r"no resume checkpoint can be used \(step-000000006: .*3: .*\): delete .*resume, and"
    ):
        load_resume_checkpoint(trainable, resume, str, 99)


def test_an_index_that_somebody_has_changed_is_no_damage(tmp_path: Path) -> None:
    """Its hash fits, as whoever can write the one can write the other."""
    from msm_hpc.training.checkpoints.resume import load_resume_checkpoint

    write_model(tmp_path / "model")
    saving, resume = saver(trainable := build(tmp_path), tmp_path), tmp_path / "resume"
    for step in (3, 6):
        saving.begin(step)
        saving.finish()
    newest, ran = resume / "step-000000006", tmp_path / "ran"
    (newest / ".metadata").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    (newest / "hashes.json").unlink()
    write_hashes(newest, {})
    with pytest.raises(UserError, match=r"step-000000006/\.metadata names os\.system, which no checkpoint needs"):
        load_resume_checkpoint(trainable, resume, str, 99)
    assert not ran.exists()


def test_a_checkpoint_of_more_steps_than_there_are_metrics_is_of_no_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from msm_hpc.training.checkpoints.resume import load_resume_checkpoint

    write_model(tmp_path / "model")
    trainable = build(tmp_path)
    saving, resume = saver(trainable, tmp_path), tmp_path / "resume"
    for step in (3, 6):
        saving.begin(step)
    saving.finish()
    assert load_resume_checkpoint(trainable, resume, str, 5) == 3
    assert "step-000000006 cannot be used" in caplog.text and "steps after the first 5 are missing" in caplog.text
    with pytest.raises(UserError, match=r"no resume checkpoint can be used \(step-000000006: .*: delete .*resume, and"):
        load_resume_checkpoint(trainable, resume, str, 2)


def test_a_file_that_cannot_be_read_back_is_reported_and_the_checkpoint_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msm_hpc.training.checkpoints import async_save

    def broken(file: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_model(tmp_path / "model")
    saving = saver(build(tmp_path), tmp_path)
    monkeypatch.setattr(async_save, "hash_of", broken)
    saving.begin(3)
    with pytest.raises(UserError, match=r"step-000000003 could not be written \(.*rank 0: .*Input/output error"):
        saving.finish()
    assert names(tmp_path) == []
