"""The GPU benchmark without a GPU: the trainer's own steps at a tiny shape, and everything around them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import SHAPES, Row, fitting, main, run, table, verdict
from benchmarks.gpu_case import Case, Measured
from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Lora, TrainConfig
from msm_hpc.planner.memory import GIB

ROOT = Path(__file__).parents[2]
H100 = 79 * GIB
PAPER = TrainConfig(global_batch_size=4)


def _case(precision: Any, **fields: Any) -> Case:
    shape = replace(
        SHAPES["1b"].shape,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = replace(SHAPES["1b"], shape=shape, vocab_size=256, head_dim=16)
    config = TrainConfig(sequence_length=64, global_batch_size=2, precision=precision, **fields)
    return Case("tiny", model, config, documents=3, warmup=1, steps=2)


def _row(precision: Any, tokens: int, device: str = "NVIDIA H100 80GB HBM3") -> Row:
    measured = Measured(device, (0.5, 0.5), tokens, int(tokens * 6e10), 40 * GIB, 42 * GIB)
    return Row("1b", precision, measured)


@pytest.mark.slow
def test_cases_train_in_processes_of_their_own_and_one_that_fails_is_a_line() -> None:
    cases = [_case("bf16"), _case("fp8_tensorwise", fp8_emulated=True, lora=Lora()), _case("mxfp8")]
    bf16, fp8, failed = [run(case) for case in cases]
    for row in (bf16, fp8):
        assert row.measured is not None and row.failure is None
        assert row.measured.tokens == 2 * 2 * 64 and len(row.measured.seconds) == 2
        assert row.measured.flops > 0 and row.measured.peak_memory > 0
    assert failed.measured is None and str(failed.failure).startswith("UserError: precision=mxfp8 needs a GPU")
    lines = table([bf16, fp8, failed]).splitlines()
    assert len(lines) == 5 and lines[-1].startswith("| tiny | mxfp8 | UserError")
    assert all(line.count("|") == lines[0].count("|") for line in lines)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_why_and_what_to_do() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "error: no GPU: torch" in done.stderr and "nvidia-smi" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("documents", ["0", "9"])
def test_a_row_holds_no_more_documents_than_tokens(documents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--sequence-length", "8", "--documents", documents])
    with pytest.raises(SystemExit, match=f"error: --documents {documents}: a row of 8 tokens holds 1 to 8; give one"):
        main()


def test_a_failure_is_one_cell_whatever_it_says_and_the_median_lies_between_the_middle_steps() -> None:
    row = _row("bf16", 10_000)
    assert row.measured is not None
    failed = replace(row, measured=None, failure="TypeError: int | None")
    steps = replace(row, measured=replace(row.measured, seconds=(0.1, 0.9, 0.4, 0.2)))
    first, second = table([failed, steps]).splitlines()[2:]
    assert first == r"| 1b | bf16 | TypeError: int \| None | | | | | |"
    assert "| 0.300 (0.900) |" in second


@pytest.mark.parametrize(("name", "parameters"), [("1b", 1_235_814_400), ("3b", 3_212_749_824), ("8b", 8_030_261_248)])
def test_shapes_are_the_published_ones(name: str, parameters: int) -> None:
    assert SHAPES[name].parameters == parameters


def test_what_does_not_fit_is_cut_alike_for_every_precision() -> None:
    fp8 = replace(PAPER, precision="fp8_tensorwise")
    whole = SHAPES["8b"]
    assert fitting(SHAPES["1b"], [PAPER], H100) == SHAPES["1b"]
    alone = fitting(whole, [PAPER], H100).shape.num_hidden_layers
    both = fitting(whole, [PAPER, fp8], H100).shape.num_hidden_layers
    assert 3 <= both < alone < 32
    assert fitting(whole, [replace(PAPER, lora=Lora())], H100) == whole
    with pytest.raises(UserError, match=r"one layer of it needs .* GiB a rank .*, and the GPU has 8\.0 GiB"):
        fitting(whole, [PAPER], 8 * GIB)


def test_ratios_are_of_the_same_shape_and_mfu_of_the_bf16_peak() -> None:
    rows = [_row("bf16", 10_000), _row("fp8_delayed", 14_000), replace(_row("fp8_delayed", 9_000), shape="3b")]
    bf16, fp8, other = table(rows).splitlines()[2:]
    assert bf16.startswith("| 1b | bf16 | 10,000 | 600 | 60.7% | 0.500 (0.500) | 40.0 (42.0) | 1.00 |")
    assert fp8.endswith("| 1.40 |") and other.endswith("|  |")
    assert verdict(rows) == ("Best MFU in bf16 (target 55%): 60.7%, met. Best FP8 over bf16 (target 1.35): 1.40, met.")
    slow = [_row("bf16", 9_000), _row("fp8_delayed", 9_900)]
    assert "54.6%, missed" in verdict(slow) and "1.10, missed" in verdict(slow)
    assert "bf16 (target 55%): not measured" in verdict([_row("bf16", 1, device="Unheard of")])
