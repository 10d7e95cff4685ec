"""The weights of a checkpoint, in Megatron's ``torch_dist`` format: the same files at any layout.

A checkpoint is a set of *global* tensors, each named by a key; every rank writes its parts, and a job at another layout
reads the parts that it needs. ``checkpoint/`` of a training run holds only the weights, under these keys (L layers,
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

A run with LoRA saves the adapter alone, ``decoder.layers.mlp.linear_fc2_adapter.down_proj.lora_A`` [L, rank, F] and so
on, and beside it a note that names the weights that it belongs to (:mod:`msm_hpc.model.adapter`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.base.errors import UserError
from msm_hpc.model.adapter import Note
from msm_hpc.training.checkpoints import kept
from msm_hpc.training.checkpoints.async_save import AsyncSave
from msm_hpc.training.checkpoints.checks import check_loadable
from msm_hpc.training.checkpoints.initial import sharded_tensors
from msm_hpc.training.megatron.private import load
from msm_hpc.training.watch.rank0 import on_rank0

log = logging.getLogger(__name__)
_EXTRA = "_extra_state"  # torch's suffix; here the scales of delayed FP8 scaling, which are no part of the weights


def save_weights(chunks: Sequence[GPTModel], path: Path, adapter: Note | None = None) -> None:
    """Write the weights that are trained as ``path``, which appears whole; every rank must call this.

    ``adapter`` is noted beside them.
    """
    AsyncSave(trained_weights(chunks), path, adapter.files if adapter else {}).finish()


def load_weights(chunks: Sequence[GPTModel], path: Path) -> None:
    """Read this rank's part of the weights that are trained from ``path``; every rank must call this.

    Raises:
        UserError: there is no checkpoint at ``path``, it is of another model, or it is damaged.
    """
    check_loadable(trained_weights(chunks), path)
    try:
        state = load(trained_weights(chunks), path)
    except CheckpointException as error:
        raise UserError(f"{path} is damaged; make it or copy it again ({reasons(error)})") from error
    set_sharded_weights(chunks, state)


def load_start(chunks: Sequence[GPTModel], path: Path) -> None:
    """:func:`load_weights` of what several trainings start from: from memory where one before this has kept it.

    Raises:
        UserError: as :func:`load_weights`, or a file is not as it was published.
    """
    checkpoint = kept.known(path)
    if checkpoint is None:
        load_weights(chunks, path)
        return
    label = kept.Label(checkpoint.content, _part(chunks))
    file = kept.kept_weights(label)
    if all(_of_all_ranks(file is not None)):
        assert file is not None
        set_sharded_weights(chunks, torch.load(file, map_location="cpu", mmap=True, weights_only=True))
        log.info("the weights of %s are in memory, where a training before this one left them", path)
        return
    on_rank0(checkpoint.check)
    load_weights(chunks, path)
    _keep(chunks, label)


def _part(chunks: Sequence[GPTModel]) -> str:
    """What stands for the tensors of this rank: names, dtypes and places in the whole."""
    return repr(
        [
            (tensor.key, str(tensor.dtype), tensor.local_shape, tensor.global_shape, tensor.global_offset)
            for tensor in sharded_tensors(trained_weights(chunks))
        ]
    )


def _of_all_ranks(mine: bool) -> list[bool]:
    found = [mine] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return found


def _keep(chunks: Sequence[GPTModel], label: kept.Label) -> None:
    """Keep the weights as they are in the model, which has just read them."""
    names, state = trained_weights(chunks), {}
    for number, chunk in enumerate(chunks):
        whole = chunk.state_dict()
        state[number] = {name: whole[name] for name in names[number]}
    size = sum(tensor.nbytes for tensors in state.values() for tensor in tensors.values())
    kept.keep(label, size, lambda file: torch.save(state, file))


def trained_weights(chunks: Sequence[GPTModel]) -> dict[int, dict[str, Any]]:
    """The weights that are trained by number of the chunk; their keys in a checkpoint are those of the whole model."""
    weights = _sharded(chunks, extra=False)
    for number, chunk in enumerate(chunks):
        for name in frozen(chunk):
            weights[number].pop(name, None)
    return weights


def sharded_scales(chunks: Sequence[GPTModel]) -> dict[int, dict[str, Any]]:
    """The scales of delayed FP8 scaling, without which a resumed run would round its first micro-batches otherwise."""
    return _sharded(chunks, extra=True) if chunks[0].config.fp8_recipe == "delayed" else {}


def set_sharded_weights(chunks: Sequence[GPTModel], state: dict[int, dict[str, Any]]) -> None:
    """Set the weights of ``chunks``; frozen ones may be absent."""
    for number, chunk in enumerate(chunks):
        result = chunk.load_state_dict(state[number], strict=False)
        absent = {name for name in result.missing_keys if not name.endswith(_EXTRA)} - frozen(chunk)
        assert not absent and not result.unexpected_keys, (absent, result.unexpected_keys)


def frozen(chunk: GPTModel) -> set[str]:
    """Names of the weights that are not trained."""
    return {name for name, parameter in chunk.named_parameters() if not parameter.requires_grad}


def reasons(error: CheckpointException) -> str:
    """The first line of each failure; the others are torch's advice on ``torch.load``, which the user does not call."""
    lines = {f"{type(reason).__name__}: {reason}".splitlines()[0] for reason, _ in error.failures.values()}
    return "; ".join(sorted(lines))


def _sharded(chunks: Sequence[GPTModel], extra: bool) -> dict[int, dict[str, Any]]:
    return {
        number: {name: value for name, value in chunk.sharded_state_dict().items() if name.endswith(_EXTRA) == extra}
        for number, chunk in enumerate(chunks)
    }
