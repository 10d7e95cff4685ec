"""Checkpoints that are not of the model, or damaged, on one rank in this process."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout
from msm_hpc.model.architecture import read_architecture
from msm_hpc.training.megatron.groups import process_groups
from tests.training.toy import write_model


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        yield


def build(folder: Path, **changes: Any) -> torch.nn.Module:
    from msm_hpc.training.megatron.model import build_model, transformer_config

    model = read_architecture(write_model(folder, **changes))
    (built,) = build_model(model, transformer_config(model, Layout(), "fp32"))
    assert isinstance(built, torch.nn.Module)
    return built


def saved(folder: Path, **changes: Any) -> Path:
    from msm_hpc.training.checkpoints.weights import save_weights

    save_weights([build(folder / "model", **changes)], folder / "checkpoint")
    return folder / "checkpoint"


def refuses(model: torch.nn.Module, checkpoint: Path, message: str) -> None:
    from msm_hpc.training.checkpoints.weights import load_weights

    with pytest.raises(UserError, match=message):
        load_weights([model], checkpoint)


def test_a_whole_checkpoint_of_the_model_is_loaded(tmp_path: Path) -> None:
    from msm_hpc.training.checkpoints.weights import load_weights

    checkpoint = saved(tmp_path, architectures=["Qwen3ForCausalLM"])
    load_weights([build(tmp_path / "same", architectures=["Qwen3ForCausalLM"])], checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"intermediate_size": 64},
            r"linear_fc1.weight: the model needs .*\[4, 128, 32\], the checkpoint has \[4, 96,",
        ),
        ({"num_hidden_layers": 2}, r"the model needs shape \[2, .*\], the checkpoint has \[4, "),
        (
            {"architectures": ["Qwen2ForCausalLM"]},
            "linear_qkv.bias: the model needs .* checkpoint has no such tensor",
        ),
        (
            {"tie_word_embeddings": True},
            "output_layer.weight: the model has no such tensor",
        ),
    ],
)
def test_a_checkpoint_of_another_model(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    refuses(build(tmp_path / "other", **changes), saved(tmp_path), message)


def cut(data: Path) -> None:
    data.write_bytes(data.read_bytes()[:-3000])


def overwrite(data: Path) -> None:
    data.write_bytes(bytes(data.stat().st_size))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("*.distcp", cut, r"\.distcp: \d+ bytes .*, but [\w.]+ is at bytes \d+ to \d+: the checkpoint was cut short"),
        ("*.distcp", Path.unlink, r"\.distcp: 0 bytes \(0: it may be missing\)"),
        ("*.distcp", overwrite, "is damaged; make it or copy it again"),
        (".metadata", cut, "metadata cannot be read"),
        (".metadata", Path.unlink, "no torch_dist checkpoint here"),
        ("metadata.json", Path.unlink, r"metadata\.json is missing"),
    ],
)
def test_a_damaged_checkpoint(tmp_path: Path, file: str, damage: Callable[[Path], None], message: str) -> None:
    checkpoint = saved(tmp_path)
    damage(next(checkpoint.glob(file)))
    refuses(build(tmp_path / "same"), checkpoint, message)


class Touches:
    """Pickled as a shell command."""

    def __init__(self, file: Path) -> None:
        self.command = f"touch {file}"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_an_index_that_runs_a_command_is_refused_before_it_does(tmp_path: Path) -> None:
    checkpoint, model = saved(tmp_path), build(tmp_path / "same")
    index = FileSystemReader(checkpoint).read_metadata()
    index.planner_data = Touches(tmp_path / "ran")
    (checkpoint / ".metadata").write_bytes(pickle.dumps(index))
    refuses(model, checkpoint, r"\.metadata names posix\.system, which no checkpoint needs")
    assert not (tmp_path / "ran").exists()


def in_the_index(checkpoint: Path, key: str, touches: Touches) -> None:
    (checkpoint / ".metadata").write_bytes(pickle.dumps(touches))


def in_what_is_no_tensor(checkpoint: Path, key: str, touches: Touches) -> None:
    torch.save(touches, checkpoint / "__0_0.distcp")
    part = _StorageInfo("__0_0.distcp", 0, (checkpoint / "__0_0.distcp").stat().st_size)
    index = Metadata({key: BytesStorageMetadata()}, storage_data={MetadataIndex(key): part})
    (checkpoint / ".metadata").write_bytes(pickle.dumps(index))


def in_what_is_common(checkpoint: Path, key: str, touches: Touches) -> None:
    torch.save(touches, checkpoint / "common.pt")


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (in_the_index, "names posix.system"),
        (in_what_is_no_tensor, "Weights only load failed"),
        (in_what_is_common, "Weights only load failed"),
    ],
)
def test_no_file_that_megatron_reads_runs_a_command(
    tmp_path: Path, plant: Callable[[Path, str, Touches], None], message: str
) -> None:
    """As where somebody exchanges one that has been checked."""
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    from msm_hpc.training.megatron.private import load

    wanted = ShardedObject("scales", None, (1,), (0,))
    plant(checkpoint := saved(tmp_path), wanted.unique_key, Touches(tmp_path / "ran"))
    with pytest.raises((CheckpointException, pickle.UnpicklingError), match=message):
        load({"scales": wanted}, checkpoint)
    assert not (tmp_path / "ran").exists()
