"""What is printed fits its reader: 80 columns in a terminal, whole lines in a pipe, silence where nobody reads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from msm_hpc.campaign.views.ledger import Ledger
from msm_hpc.campaign.views.status import StepStatus
from msm_hpc.cli.main import main
from msm_hpc.cli.views.status import COLOURS, status_table
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step

ON_GPUS = (
    "campaign=demo",
    "model=qwen3_32b",
    "cluster=slurm",
    "cluster.gpu=h100",
    "cluster.resources.gpu_train.gpus_per_node=8",
    "cluster.nodes=4",
    "cluster.resources.cpu.memory_gb=80",
    "export.dtype=bfloat16",
    "lora=r64",
    "stages.midtrain.layout=auto",
    "stages.aft.layout=auto",
    "sources.replay.rows=0",
    "sources.documents.rows=null",
    "sources.documents.tokens=400_000_000",
    "stages.midtrain.epochs=2",
    "stages.midtrain.sequence_length=128",
    "stages.midtrain.global_batch_size=8",
    "campaign.seeds=[0,1]",
    "campaign.arms=[init,base,msm,aft,msm+aft]",
    "campaign.contrast=[msm+aft]",
)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "msm_hpc.cli.arguments.terminal", lambda: Console(width=80, force_terminal=True, color_system=None)
    )


def test_a_plan_fits_80_columns(narrow: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *ON_GPUS, f"root={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    table = shown[shown.index("What trainings need") : shown.index(" GPU-hours in ")]
    for whole in ("optimizer", "time of a run", "LoRA 64", "of 80 GiB", "s a step", "GPU-hours", "800,000,000"):
        assert whole in table
    assert max(map(len, table.splitlines())) <= 80
    arrays = shown[re.search(r"^\d+ arrays of", shown, re.MULTILINE).start() :]  # type: ignore[union-attr]
    assert max(map(len, arrays.splitlines())) <= 80
    assert "element by element" in " ".join(arrays.split())


def test_every_state_of_a_long_stage_fits_80_columns() -> None:
    steps = [Step("train", "x", ExportConfig(), {}, recipe="cot_rl_stand_in") for _ in COLOURS]
    statuses = [StepStatus(step, state, ()) for step, state in zip(steps, COLOURS, strict=True)]
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as capture:
        status_table(Graph(tuple(steps), (), None), statuses, Ledger(False, {})).print(console)
    shown = capture.get()
    assert "cot_rl_stand_in" in shown and "…" not in shown
    assert all(f"1 {state}" in " ".join(shown.split()) for state in COLOURS)
    assert max(map(len, shown.splitlines())) <= 80


def test_a_pipe_gets_whole_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--steps", "campaign=demo", f"root={tmp_path}"]) == 0
    name = "pack/midtrain/documents-affordability+pretraining/seed1"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if name in line]
    assert line.rstrip().endswith("generate, 2 tokenize")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_a_full_disk_that_is_printed_to_is_not_taken_for_that_of_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["plan", "--steps", "campaign=demo", f"root={tmp_path}"]) == 2
        assert main(["config", "campaign=demo", f"root={tmp_path}"]) == 0, "nothing is written there any more"
    said = capsys.readouterr().err
    assert said == "msm: No space left on device: what it prints cannot be written where it goes; send it elsewhere\n"


def closed_pipe() -> int:
    """The end to write to of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("command", ["status", "why"])
def test_a_reader_that_has_gone_is_no_error(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with os.fdopen(closed_pipe(), "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        with pytest.raises(SystemExit) as ended:  # raised by rich, as where this is a program
            main([command, "campaign=demo", f"root={tmp_path}"])
    assert (ended.value.code, capsys.readouterr().err) == (1, "")


def test_a_reader_of_the_help_that_has_gone_is_no_error() -> None:
    program, writer = [sys.executable, "-m", "msm_hpc", "plan", "--help"], closed_pipe()
    ended = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, "")
