"""The budget of a root: what was spent below it and what is about to run, against ``cluster.budget_gpu_hours``."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.campaign.session import Session
from msm_hpc.cli.main import main
from msm_hpc.launch.allocation import Allocation
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store

Usage = namedtuple("Usage", ["total", "used", "free"])
ON_H100 = (
    *("campaign=demo", "model=qwen3_14b", "cluster=slurm", "cluster.gpu=h100", "cluster.nodes=2"),
    *("cluster.resources.gpu_train.gpus_per_node=8", "cluster.resources.cpu.memory_gb=80"),
    *("stages.midtrain.layout=auto", "stages.aft.layout=auto", "campaign.arms=[msm]", "campaign.contrast=[]"),
    *("sources.replay.rows=0", "sources.documents.rows=null", "sources.documents.tokens=400_000_000"),
)
"""Its midtrainings can be forecast, its fine-tunings cannot."""


@pytest.fixture(autouse=True)
def enough_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**50, 0, 2**50))


def spend(root: Path, seconds: int, job: str = "7") -> None:
    """By another campaign, on 8 GPUs."""
    attempt = Attempt(
        job=JobRef("slurm", job),
        host="n1",
        ranks=8,
        commit=None,
        log="",
        start="2026-01-01T00:00:00+00:00",
        end="2026-01-01T00:00:00+00:00",
        cause="done",
        allocation=Allocation(0.0, 8, 8),
    )
    began = Allocation(1_767_225_600.0 - seconds, 8, 8)
    Store(root).folder("train/of another").write_attempt(1, replace(attempt, allocation=began))


def test_what_was_spent_below_the_root_is_held_against_the_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [*ON_H100, f"root={tmp_path}"]
    spend(tmp_path, 3600)
    assert main(["run", *where, "cluster.budget_gpu_hours=8"]) == 2
    refused = capsys.readouterr().err
    assert f"cluster.budget_gpu_hours is 8, and 8.00 GPU-hours are spent below {tmp_path}" in refused
    assert "raise the budget, or ask for less" in refused
    assert not (tmp_path / "campaigns").exists()


def test_what_was_spent_on_steps_that_gc_deleted_stays_spent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [*ON_H100, f"root={tmp_path}"]
    Session(tuple(where), Console(quiet=True)).remember()
    for job in ("7", "8"):  # the second makes it again
        spend(tmp_path, 3600, job)
        assert main(["gc", f"root={tmp_path}", "--days", "0", "--yes"]) == 0
        assert not [*Store(tmp_path).folders()]
    assert main(["run", *where, "cluster.budget_gpu_hours=12"]) == 2
    assert "cluster.budget_gpu_hours is 12, and 16.00 GPU-hours are spent" in capsys.readouterr().err


def test_what_is_forecast_is_held_against_the_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = [*ON_H100, f"root={tmp_path}"]
    spend(tmp_path, 3600)
    assert main(["plan", *where, "cluster.budget_gpu_hours=100000"]) == 0
    shown = capsys.readouterr().out
    note = next(line for line in shown.splitlines() if line.startswith("Note: cluster.budget_gpu_hours"))
    assert "=100000 is held against 8.00 GPU-hours spent and " in note and "loading of midtrain" in note
    assert " eval" in note and "midtrain," not in note.replace("loading of midtrain", "")
    last = shown.splitlines()[-1]
    assert last.startswith("Training alone: ") and "GPU-hours, " in last and "cluster.array_parallelism=256" in last
    assert "GiB of disk, not counting " in last and "loading of midtrain" in last
    assert main(["plan", *where, "cluster.budget_gpu_hours=9"]) == 0
    assert "Note: cluster.budget_gpu_hours is 9, and 8.00 GPU-hours are spent" in capsys.readouterr().out
    assert main(["run", *where, "cluster.budget_gpu_hours=9"]) == 2


def test_what_is_wrong_is_said_at_once_and_disk_and_budget_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 0, 2**30))
    spend(tmp_path, 3600)
    wrong = [
        "cluster.budget_gpu_hours=8",
        "cluster.resources.gpu_train.time_minutes=5",
        "export.dtype=bfloat16",
        "cluster.resources.cpu.time_minutes=5",
    ]
    assert main(["run", *ON_H100, f"root={tmp_path}", *wrong]) == 2
    model, export, disk, budget = capsys.readouterr().err.strip().splitlines()
    assert "model of qwen3_14b moves" in model and "export of qwen3_14b moves" in export
    assert f"root={tmp_path} has 1.0 GiB free" in disk
    assert "cluster.budget_gpu_hours is 8, and 8.00 GPU-hours are spent" in budget


def test_a_model_that_is_not_there_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its size, and so the disk that it needs, is not known."""
    where = ["model=smollm2_135m", "model.package=null", f"model.folder={tmp_path}/gone", f"root={tmp_path}"]
    assert main(["run", "campaign=demo", *where]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.endswith(f"model.folder={tmp_path}/gone: there is no such folder; correct the path")
