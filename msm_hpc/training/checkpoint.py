"""Checkpoints in Megatron's ``torch_dist`` format: the same files at any layout.

A checkpoint is a set of *global* tensors, each named by a key; every rank writes its parts, and a job of another layout
reads the parts that it needs. ``checkpoint/`` of a training run holds the weights alone, under these keys (L layers,
hidden size H, N heads and K key-value heads of D channels, MLP width F, V the vocabulary rounded up to a multiple of
128; tensors are [out, in], in the dtype of the parameters):

================================================================ ================ ======================
key                                                              shape
================================================================ ================ ======================
``embedding.word_embeddings.weight``                             [V, H]
``decoder.layers.self_attention.linear_qkv.layer_norm_weight``   [L, H]           before attention
``decoder.layers.self_attention.linear_qkv.weight``              [L, (N+2K)*D, H] see below
``decoder.layers.self_attention.linear_qkv.bias``                [L, (N+2K)*D]    Qwen2 only
``decoder.layers.self_attention.q_layernorm.weight``             [L, D]           Qwen3 only
``decoder.layers.self_attention.k_layernorm.weight``             [L, D]           Qwen3 only
``decoder.layers.self_attention.linear_proj.weight``             [L, H, N*D]
``decoder.layers.mlp.linear_fc1.layer_norm_weight``              [L, H]           before the MLP
``decoder.layers.mlp.linear_fc1.weight``                         [L, 2*F, H]      gate, then up
``decoder.layers.mlp.linear_fc2.weight``                         [L, H, F]
``decoder.final_layernorm.weight``                               [H]
``output_layer.weight``                                          [V, H]           absent when tied
================================================================ ================ ======================

The rows of ``linear_qkv`` go by key-value head: the N/K queries that share it, then its key, then its value.

A *resume point* holds the optimizer's state too (float32 weights, two moments, step count), the scales of delayed FP8
scaling, and the digest of the samples consumed so far. It lies in a folder named by its step, which gets that name only
when all of it is on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Queue
from types import MappingProxyType
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.errors import UserError
from msm_hpc.files import write_text
from msm_hpc.training.loadable import check_loadable
from msm_hpc.training.optimizer import Trainable

Consumed = Callable[[int], str]

KEPT = 2  # resume points: the older one is for a file system that loses the newer
_STEP = "step-"
_CONSUMED = "consumed.sha256"
_EXTRA = "_extra_state"  # scales of delayed FP8 scaling, of no use elsewhere: no part of the weights


def save_weights(model: GPTModel, path: Path) -> None:
    """Write the weights as ``path``, which appears whole; every rank must call this."""
    _save(_weights(model), path)


def load_weights(model: GPTModel, path: Path) -> None:
    """Read this rank's part of the weights from ``path``; every rank must call this.

    Raises:
        UserError: there is no checkpoint at ``path``, it is of another model, or it is damaged.
    """
    check_loadable(model, path)
    try:
        state = dist_checkpointing.load(_weights(model), str(path))
    except CheckpointException as error:
        reasons = {f"{type(reason).__name__}: {reason}" for reason, _ in error.failures.values()}
        raise UserError(f"{path} is damaged; make it or copy it again ({'; '.join(sorted(reasons))})") from error
    _set_weights(model, state)


def save_resume_point(trainable: Trainable, folder: Path, step: int, consumed: Consumed) -> None:
    """Write everything needed to go on after ``step`` steps, and drop all but :data:`KEPT`; every rank must call this.

    Args:
        trainable: model and optimizer.
        folder: of the run's resume points.
        step: how many steps are done.
        consumed: gives the digest of the samples of the first so many steps.
    """
    _save(_everything(trainable, loading=False), folder / _name(step), {_CONSUMED: consumed(step)})
    if distributed.get_rank() == 0:
        for older in _points(folder)[:-KEPT]:
            shutil.rmtree(older)


def load_resume_point(trainable: Trainable, folder: Path, consumed: Consumed) -> int:
    """Go back to the newest resume point in ``folder``; every rank must call this.

    Returns:
        How many steps are done; 0 where there is no point.

    Raises:
        UserError: the point comes from other samples, or another order of them, than ``consumed`` tells.
    """
    newest = [_points(folder)[-1:]]
    distributed.broadcast_object_list(newest, src=0)
    if not newest[0]:
        return 0
    (path,) = newest[0]
    step = int(path.name.removeprefix(_STEP))
    stored, expected = (path / _CONSUMED).read_text(encoding="utf-8"), consumed(step)
    if stored != expected:
        raise UserError(
            f"{path}: its {step} steps consumed other samples, or in another order, than those of this run (digest "
            f"{stored[:12]}, expected {expected[:12]}): plan, shards, seed or global batch size changed; put them "
            f"back, or delete {folder} to begin anew"
        )
    loaded = dist_checkpointing.load(_everything(trainable, loading=True), str(path))
    _set_weights(trainable.model, loaded["model"])
    trainable.model.load_state_dict(loaded["scales"], strict=False)
    trainable.optimizer.load_state_dict(loaded["optimizer"])
    return step


def _name(step: int) -> str:
    return f"{_STEP}{step:09d}"


def _points(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_STEP}*"))


def _weights(model: GPTModel) -> dict[str, Any]:
    return {name: value for name, value in model.sharded_state_dict().items() if not name.endswith(_EXTRA)}


def _scales(model: GPTModel) -> dict[str, Any]:
    """Of delayed scaling: without them a resumed run would round its first micro-batches otherwise."""
    if model.config.fp8_recipe != "delayed":
        return {}
    return {name: value for name, value in model.sharded_state_dict().items() if name.endswith(_EXTRA)}


def _set_weights(model: GPTModel, state: dict[str, Any]) -> None:
    result = model.load_state_dict({name: state[name] for name in _weights(model)}, strict=False)
    absent = [name for name in result.missing_keys if not name.endswith(_EXTRA)]
    assert not absent and not result.unexpected_keys, (absent, result.unexpected_keys)


def _everything(trainable: Trainable, loading: bool) -> dict[str, Any]:
    weights = _weights(trainable.model)
    optimizer: MegatronOptimizer = trainable.optimizer
    how = {
        "distrib_optim_sharding_type": "fully_reshardable",
        "chained_optim_avoid_prefix": True,
        "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
    }
    with torch.no_grad():
        return {
            "model": weights,
            "scales": _scales(trainable.model),
            "optimizer": optimizer.sharded_state_dict({"model": weights}, is_loading=loading, metadata=how),
        }


def _save(state: dict[str, Any], path: Path, notes: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write ``state``, and texts beside it by file name, as ``path``, which appears whole."""
    partial = path.with_name(f".{path.name}.partial")
    if distributed.get_rank() == 0:
        for old in (partial, path):
            shutil.rmtree(old, ignore_errors=True)
        partial.mkdir(parents=True)
    distributed.barrier()
    # Megatron would start a manager process for a queue that only asynchronous saving shares between processes: seconds
    # a rank, and it imports the main script a second time.
    filesystem_async._results_queue = filesystem_async._results_queue or Queue()
    dist_checkpointing.save(state, str(partial), TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1))
    if distributed.get_rank() == 0:
        for name, text in notes.items():
            write_text(partial / name, text)
        partial.rename(path)
    distributed.barrier()
