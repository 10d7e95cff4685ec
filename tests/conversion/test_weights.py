from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from msm_hpc.base.errors import UserError
from msm_hpc.conversion.weights import INDEX, StoredWeights, has_safetensors, write_weights
from tests.conversion.models import make_model

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(5), "c": torch.zeros(2, 2)}
SHAPES = {name: tuple(weight.shape) for name, weight in WEIGHTS.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_library_reads_the_one_file(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: weight.to(dtype) for name, weight in WEIGHTS.items()}
    write_weights(tmp_path, SHAPES, dtype, reversed(weights.items()))
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert not (tmp_path / INDEX).exists()


def test_transformers_opens_the_shards(tmp_path: Path) -> None:
    source = make_model(tmp_path, "qwen2")
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    write_weights(source, shapes, torch.float32, weights.items(), shard_size="20KB")
    assert len(list(source.glob("model-*.safetensors"))) > 2
    total = 4 * sum(weight.numel() for weight in weights.values())
    assert json.loads((source / INDEX).read_text())["metadata"]["total_size"] == total
    model = AutoModelForCausalLM.from_pretrained(source)
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    stored = StoredWeights(source)
    assert len(stored) == len(weights)
    assert all(torch.equal(stored[name], weights[name]) for name in stored)


def test_weights_other_than_the_announced_ones_fail_an_assertion(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="b"):
        write_weights(tmp_path, SHAPES, torch.float32, [("b", torch.ones(6))])
    with pytest.raises(AssertionError, match="'a', 'c'"):
        write_weights(tmp_path, SHAPES, torch.float32, [("b", torch.ones(5))])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert not has_safetensors(tmp_path)
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    assert has_safetensors(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors cannot be loaded: .*; download or copy it again"):
        StoredWeights(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, r"index\.json does not exist, and the weights are in several files"),
        ("{", r"index\.json: not valid JSON"),
        ("[]", r"index\.json: expected a JSON object, found list"),
        ("{}", r"index\.json: weight_map: expected a file name by weight"),
        ('{"weight_map": {"a": 3}}', r"index\.json: weight_map: expected"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', r"index\.json: weight_map: expected"),
        ('{"weight_map": {"a": "model-2.safetensors"}}', r"files that are not there: model-2\.safetensors"),
    ],
)
def test_a_broken_index_is_named(tmp_path: Path, index: str | None, message: str) -> None:
    save_file(WEIGHTS, tmp_path / "model-1.safetensors")
    if index is not None:
        (tmp_path / INDEX).write_text(index)
    assert has_safetensors(tmp_path)
    with pytest.raises(UserError, match=message):
        StoredWeights(tmp_path)
