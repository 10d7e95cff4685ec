"""The gate at the end of an export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import ExportConfig, ExportInputs
from msm_hpc.conversion import gate, stage
from tests.conversion.models import BF16, VARIANTS, export, import_model, make_model


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
        ("llama 3.1", {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}),
        ("qwen2", {"rms_norm_eps": 1e-2}),
    ],
)
def test_another_model_than_the_given_one_is_not_let_through(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    """As if the model step had written another config.json than it read: shapes are the same, numbers are not."""
    model = import_model(make_model(tmp_path / "source", **VARIANTS[name]), tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(UserError, match=r"reads another model there than was trained: logits differ .* by \d"):
        export(model, tmp_path / "out")


def test_a_narrower_dtype_is_not_held_against_the_given_model(tmp_path: Path) -> None:
    export(import_model(make_model(tmp_path / "source"), tmp_path / "model"), tmp_path / "out", BF16)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda weight: weight + 1, "mlp.up_proj.weight has other values than were written"),
        (lambda weight: weight.T, "missing, too many or of another shape: .*mlp.up_proj"),
    ],
)
def test_what_was_written_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: Any, message: str
) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    write = stage.write_weights

    def spoiled(folder: Path, *arguments: Any) -> None:
        write(folder, *arguments)
        written = load_file(folder / "model.safetensors")
        save_file(written | {name: edit(written[name]).contiguous()}, folder / "model.safetensors", {"format": "pt"})

    model = import_model(make_model(tmp_path / "source"), tmp_path / "model")
    monkeypatch.setattr(stage, "write_weights", spoiled)
    with pytest.raises(UserError, match=message):
        export(model, tmp_path / "out")


def test_a_model_that_computes_no_numbers_is_not_let_through(tmp_path: Path) -> None:
    """Each weight is finite; what they compute is not."""
    source = make_model(tmp_path / "source")
    trained = AutoModelForCausalLM.from_pretrained(source)
    trained.model.norm.weight.data.fill_(3e38)
    trained.save_pretrained(tmp_path / "trained")
    for file in source.glob("token*"):
        (tmp_path / "trained" / file.name).write_bytes(file.read_bytes())
    inputs = ExportInputs(
        model=import_model(source, tmp_path / "model"), checkpoint=import_model(tmp_path / "trained", tmp_path / "last")
    )
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="computes logits that are not finite: the training diverged"):
        stage.run_export(ExportConfig(), inputs, tmp_path / "out")


def test_a_large_model_is_computed_by_its_first_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With memory for one layer, what lies in the second takes no part."""
    monkeypatch.setattr(gate, "MEMORY", 1)
    source = make_model(tmp_path / "source", "qwen3")
    first = import_model(source, tmp_path / "first")
    stored = load_file(source / "model.safetensors")
    spoiled = {name: torch.zeros_like(weight) if ".layers.1." in name else weight for name, weight in stored.items()}
    save_file(spoiled, source / "model.safetensors", {"format": "pt"})
    second = import_model(source, tmp_path / "second")
    assert (first / "logits.json").read_text() == (second / "logits.json").read_text()
    export(second, tmp_path / "out", ExportConfig())
