from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout, TrainConfig
from msm_hpc.model.architecture import read_architecture
from msm_hpc.model.layout import check_layout, check_world_size, problems
from tests.training.toy import write_model


@pytest.mark.parametrize(
    ("layout", "changes", "message"),
    [
        (Layout(tensor_parallel=3), {}, "tensor_parallel=3 does not divide 4 attention heads; choose 2"),
        (Layout(tensor_parallel=4), {}, "tensor_parallel=4 does not divide 2 key-value heads; choose 2"),
        (Layout(tensor_parallel=2), {"intermediate_size": 49}, "tensor_parallel=2 does not divide 49 columns"),
        (Layout(pipeline_parallel=3), {}, "pipeline_parallel=3 does not divide 4 layers; choose 2"),
        (
            Layout(pipeline_parallel=2, virtual_pipeline=3),
            {},
            "virtual_pipeline=3 does not divide 2 layers of each of the pipeline stages; choose 2",
        ),
        (Layout(tensor_parallel=2, sequence_parallel=True), {}, "does not divide 33 tokens"),
        (Layout(), {"max_position_embeddings": 32}, "sequence_length 33 .* lower it to 32"),
    ],
)
def test_a_layout_that_does_not_fit(tmp_path: Path, layout: Layout, changes: dict[str, Any], message: str) -> None:
    model = read_architecture(write_model(tmp_path / "model", **changes))
    with pytest.raises(UserError, match=message):
        check_layout(layout, model, sequence_length=33)


def test_every_problem_of_a_layout_is_listed(tmp_path: Path) -> None:
    model = read_architecture(write_model(tmp_path / "model"))
    found = problems(Layout(tensor_parallel=4, pipeline_parallel=3, virtual_pipeline=3), model, sequence_length=2**20)
    assert [problem.split(maxsplit=1)[0] for problem in found] == [
        "layout.tensor_parallel=4",
        "layout.pipeline_parallel=3",
        "sequence_length",
    ]
    assert problems(Layout(tensor_parallel=2), model, sequence_length=32) == []


def test_a_layout_that_fits(tmp_path: Path) -> None:
    model = read_architecture(write_model(tmp_path / "model"))
    check_layout(Layout(tensor_parallel=2, pipeline_parallel=4, sequence_parallel=True), model, sequence_length=32)
    check_layout(Layout(pipeline_parallel=2, virtual_pipeline=2), model, sequence_length=32)
    padded_to_fit = Layout(tensor_parallel=2, sequence_parallel=True, context_parallel=2)
    check_layout(padded_to_fit, model, sequence_length=33)


def test_chunks_are_of_pipeline_stages() -> None:
    with pytest.raises(UserError, match=r"virtual_pipeline=2 .*pipeline_parallel is 1: set it to 2 or more"):
        Layout(virtual_pipeline=2)


def test_interleaved_micro_batches_are_a_multiple_of_the_stages() -> None:
    layout = Layout(pipeline_parallel=4, virtual_pipeline=2, data_parallel=2)
    with pytest.raises(UserError, match=r"6 micro-batches \(global_batch_size 12 / .* 1 / .* 2\), no multiple of .* 4"):
        TrainConfig(layout=layout, global_batch_size=12)
    TrainConfig(layout=layout, global_batch_size=16)


def test_what_the_emulator_cannot_do_with_chunks() -> None:
    layout = Layout(pipeline_parallel=2, virtual_pipeline=2)
    with pytest.raises(UserError, match=r"virtual_pipeline=2 with fp8_delayed cannot be emulated .*fp8_tensorwise"):
        TrainConfig(layout=layout, precision="fp8_delayed", fp8_emulated=True)
    TrainConfig(layout=layout, precision="fp8_delayed")
    TrainConfig(layout=layout, precision="fp8_tensorwise", fp8_emulated=True)


def test_world_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check_world_size(Layout())
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(UserError, match=r"3 ranks .* needs 8: .*context_parallel 2"):
        check_world_size(Layout(tensor_parallel=2, context_parallel=2, data_parallel=2))


def test_checking_imports_nothing_heavy() -> None:
    code = "import sys, msm_hpc.model.layout; print([m for m in ('torch', 'megatron', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
