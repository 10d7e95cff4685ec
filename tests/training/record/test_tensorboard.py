"""Curves: TensorBoard always; Weights & Biases, offline, where it is asked for and installed."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.training.record.metrics import FieldLoss, StepMetrics
from msm_hpc.training.record.tensorboard import Curves, check_wandb
from tests.training.toy import TWO_RANKS

STEP = StepMetrics(3, 1.5, 0.1, 1e-3, 100, 90, 24, 10**9, 0.5)
HELD = [FieldLoss(3, None, None, 2.0, 50), FieldLoss(3, "doc_type", "letter", 1.75, 20)]


def write(out: Path, wandb: str | None = None) -> None:
    curves = Curves(out, 0, replace(TWO_RANKS, wandb=wandb))
    curves.add([STEP], world_size=2)
    curves.add_held_out(HELD)
    curves.close()


def test_tensorboard_has_steps_and_each_held_out_value(tmp_path: Path) -> None:
    write(tmp_path)
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    assert all(name in content for name in (b"grad_norm", b"heldout/loss", b"heldout/doc_type/letter"))
    assert not (tmp_path / "wandb").exists()


def test_a_project_without_the_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msm_hpc.training.record.tensorboard.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"wandb=spec: the package wandb is not installed; pip install 'msm-hpc\[wandb\]'"
    ):
        check_wandb("spec")
    check_wandb(None)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="needs the extra wandb")
def test_wandb_writes_the_same_curves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    write(tmp_path, wandb="spec")
    importlib.import_module("wandb").teardown()  # as at the end of the process: its service writes the file out
    (file,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    content = file.read_bytes()
    assert all(name in content for name in (b"grad_norm", b"heldout/doc_type/letter", b"global_batch_size"))
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"W&B does not start .*WANDB_API_KEY"):
        write(tmp_path, wandb="spec")
