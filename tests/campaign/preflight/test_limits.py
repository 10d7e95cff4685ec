"""What conversion and evaluation need of memory and time, refused where a class of work has less."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.external_inputs import ExternalInputs
from msm_hpc.campaign.starting_model import starting_model, stored_weight_size
from msm_hpc.config.stages import ModelConfig
from msm_hpc.graph.build import build_graph
from msm_hpc.planner.loading import converting, evaluating, loading
from msm_hpc.planner.memory import FIXED_CPU, GIB
from tests.composed import load_config, past_preflight, preflight


def refused(*overrides: str) -> str:
    with pytest.raises(UserError) as error:
        preflight(load_config(["campaign=demo", *overrides]))
    return str(error.value)


ON_H100 = (
    "model=qwen2_5_32b",
    "campaign.arms=[init]",
    "campaign.contrast=[]",
    "cluster=slurm",
    "cluster.gpu=h100",
    "cluster.resources.gpu_train.gpus_per_node=8",
)


def test_an_evaluation_that_no_gpu_of_the_cluster_takes_is_refused_with_the_fix() -> None:
    enough = (*ON_H100, "cluster.resources.cpu.memory_gb=160")
    message = refused(*enough, "export.dtype=float32")
    assert "eval of qwen2_5_32b needs 1" in message and "a h100 (cluster.gpu) has 79.6 GiB" in message
    assert "set export.dtype=bfloat16" in message
    preflight(load_config(["campaign=demo", *enough, "export.dtype=bfloat16"]))


def test_too_little_host_memory_is_refused_by_the_key_that_sets_it() -> None:
    message = refused(*ON_H100, "export.dtype=bfloat16")
    default = "and cluster.resources.cpu.memory_gb=4 has 4.0 GiB: raise it to 6"
    assert f"model of qwen2_5_32b needs 5.3 GiB of host memory, {default}" in message
    assert f"export of qwen2_5_32b needs 5.3 GiB of host memory, {default}" in message
    assert "eval of qwen2_5_32b needs 61.9 GiB of host memory, and cluster.resources.gpu_eval.memory_gb=4" in message
    message = refused(*ON_H100, "export.dtype=bfloat16", "cluster.resources.gpu_eval={gpus_per_node: 0, memory_gb: 62}")
    assert "eval of qwen2_5_32b needs 6" in message and "gpu_eval.memory_gb=62 has 62.0 GiB" in message


def test_too_little_time_for_what_does_not_resume_is_refused() -> None:
    enough = (*ON_H100, "cluster.resources.cpu.memory_gb=160", "export.dtype=bfloat16")
    message = refused(*enough, "cluster.resources.cpu.time_minutes=10", "cluster.resources.gpu_eval.time_minutes=5")
    moved = "moves 183 GiB, about 17 minutes at 200 MB/s (assumed), and cluster.resources.cpu.time_minutes is 10"
    assert f"model of qwen2_5_32b {moved}" in message and f"export of qwen2_5_32b {moved}" in message
    assert "eval of qwen2_5_32b moves 61 GiB, about 6 minutes" in message


def test_what_is_done_needs_nothing_more() -> None:
    """A profile with less memory than the conversion and the export took does not stop what is left."""
    overrides = [*ON_H100, "export.dtype=bfloat16", "cluster.resources.gpu_eval.memory_gb=64"]
    config, external = load_config(["campaign=demo", *overrides]), ExternalInputs({})
    graph = build_graph([config], external)
    past_preflight([config], graph, external, graph.needed(lambda step: step.kind in ("model", "export")))


def test_by_hand() -> None:
    """32.76 billion weights; the largest tensor are the rows of 152,064 tokens."""
    model = starting_model(load_config(["model=qwen2_5_32b"]).model)
    assert model is not None
    assert converting(model, 2) == FIXED_CPU + 3 * 2 * 152_064 * 5120
    assert loading(model, 2) == FIXED_CPU + 2 * 32_763_876_352
    batch, single = (evaluating(model, 2, size, on_gpu=True, lora=None) for size in (2048, 256))
    assert 62 * GIB < single < batch < 72 * GIB


def test_a_larger_adapter_takes_more_memory_in_an_evaluation() -> None:
    """Rank 1024 on Qwen2.5-32B is 16 times as much as rank 64: 8.6 billion numbers."""
    lora = ("campaign.arms=[aft]", "cluster.resources.cpu.memory_gb=160", "cluster.resources.gpu_eval.memory_gb=100")
    on_8 = [*ON_H100, *lora, "export.dtype=bfloat16", "stages.aft.layout={tensor_parallel: 8}", "sources.replay.rows=0"]
    preflight(load_config(["campaign=demo", *on_8, "lora=r64"]))
    assert "eval of qwen2_5_32b needs 8" in refused(*on_8, "lora=r64", "lora.rank=1024")


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 4), (np.float16, 2)])
def test_weights_are_counted_as_the_folder_stores_them(tmp_path: Path, dtype: Any, size: int) -> None:
    """``config.json`` says what its writer computed in, and counts only where no weight is here to look at."""
    (tmp_path / "config.json").write_text(json.dumps({"torch_dtype": "bfloat16" if size == 4 else "float32"}))
    assert stored_weight_size(folder_model(tmp_path)) == 6 - size
    (tmp_path / "model-1.safetensors").write_bytes(b"damaged")
    save_file(
        {"w": np.zeros(1, dtype), "a.rotary_emb.inv_freq": np.zeros(1, np.float32)}, tmp_path / "model-2.safetensors"
    )
    assert stored_weight_size(folder_model(tmp_path)) == size


def test_weights_that_are_not_here_are_counted_by_the_shape_that_was_given() -> None:
    hub = ModelConfig(name="m", hub="org/name", revision="0" * 40)
    assert stored_weight_size(hub) == 2
    assert stored_weight_size(replace(hub, shape={"dtype": "float32"})) == 4
    assert stored_weight_size(ModelConfig(name="m", package="p", gguf_file="m.gguf")) == 4


def folder_model(folder: Path) -> ModelConfig:
    return ModelConfig(name="m", folder=folder)
