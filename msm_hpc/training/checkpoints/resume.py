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

A run with LoRA saves the frozen weights too, so that whoever reads its checkpoint needs no other, and beside them the
adapter: ``decoder.layers.mlp.linear_fc2_adapter.down_proj.lora_A`` [L, rank, F] and so on
(:mod:`msm_hpc.model.adapter`). Its resume points hold the adapter alone.

A *resume point* holds the optimizer's state too (float32 weights, two moments, step count), the scales of delayed FP8
scaling, the digest of the samples consumed so far, and the layout: a run at any other may go on from it. It lies in a
folder named by its step, which gets that name only when all of it is on disk.
"""

from __future__ import annotations

import json
import logging
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.optimizer import MegatronOptimizer
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout, Lora
from msm_hpc.model.adapter import note
from msm_hpc.training.checkpoints.async_save import Writing
from msm_hpc.training.checkpoints.checks import check_loadable, check_whole
from msm_hpc.training.megatron.optimizer import Trainable, gather_weights
from msm_hpc.training.watch.rank0 import on_first_rank

log = logging.getLogger(__name__)
Consumed = Callable[[int], str]

KEPT = 2  # resume points: the older one is for a file system that loses the newer
_STEP = "step-"
_CONSUMED = "consumed.sha256"
_LAYOUT = "layout.json"
_COMMON = "common.pt"  # Megatron's: what is no tensor of a rank
_UNREADABLE = (OSError, EOFError, RuntimeError, pickle.UnpicklingError)  # of torch.load, by where the damage is
_EXTRA = "_extra_state"  # scales of delayed FP8 scaling, of no use elsewhere: no part of the weights


def save_weights(chunks: Sequence[GPTModel], path: Path, lora: Lora | None = None) -> None:
    """Write the weights, with the adapter of ``lora``, as ``path``, which appears whole; every rank must call this."""
    Writing(_weights(chunks), path, note(lora)).finish()


def load_weights(chunks: Sequence[GPTModel], path: Path) -> None:
    """Read this rank's part of the weights from ``path``; every rank must call this.

    Raises:
        UserError: there is no checkpoint at ``path``, it is of another model, or it is damaged.
    """
    check_loadable(chunks, path)
    try:
        state = dist_checkpointing.load(_weights(chunks), str(path))
    except CheckpointException as error:
        raise UserError(f"{path} is damaged; make it or copy it again ({_reasons(error)})") from error
    _set_weights(chunks, state)


class ResumePoints:
    """Everything needed to go on after some steps, written into ``folder`` while training goes on; at most one at once.

    Every rank must call :meth:`begin` and :meth:`finish`. ``consumed`` gives the digest of the samples of the first so
    many steps.
    """

    def __init__(self, trainable: Trainable, folder: Path, consumed: Consumed) -> None:
        self._trainable, self._folder, self._consumed = trainable, folder, consumed
        self._writing: Writing | None = None

    @property
    def busy(self) -> bool:
        """Whether this rank is writing."""
        return self._writing is not None and self._writing.busy

    def begin(self, step: int) -> None:
        """Take a copy of the state after ``step`` steps and begin to write it; first :meth:`finish` the one before."""
        self.finish()
        gather_weights(self._trainable)
        state = _everything(self._trainable, loading=False)
        notes = {_CONSUMED: self._consumed(step), _LAYOUT: _arrangement(self._trainable.layout)}
        self._writing = Writing(state, self._folder / _name(step), notes)

    def finish(self) -> None:
        """Wait for the point that is being written, if any, let it appear, and then drop all but :data:`KEPT`.

        Raises:
            UserError: it could not be written.
        """
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        writing.finish()
        if distributed.get_rank() == 0:
            for older in _points(self._folder)[:-KEPT]:
                shutil.rmtree(older)


class _DamagedError(Exception):
    """A resume point cannot be read, and an older one may be."""


@dataclass(frozen=True)
class _Notes:
    """The texts beside a resume point."""

    consumed: str
    layout: str


def load_resume_point(trainable: Trainable, folder: Path, consumed: Consumed) -> int:
    """Go back to the newest resume point in ``folder`` that can be read; every rank must call this.

    Returns:
        How many steps are done; 0 where there is no point.

    Raises:
        UserError: the point comes from other samples, or another order of them, than ``consumed`` tells; or there are
            points, and none can be read.
    """
    damages = []
    for path in on_first_rank(lambda: _points(folder)[::-1]):
        step = int(path.name.removeprefix(_STEP))
        try:
            _load(trainable, path, consumed(step))
        except _DamagedError as damage:
            damages.append(f"{path.name}: {damage}")
            if distributed.get_rank() == 0:
                log.warning("%s cannot be read, so the one before it is tried: %s", path, damage)
            continue
        return step
    if damages:
        raise UserError(
            f"{folder}: no resume point can be read ({'; '.join(damages)}): delete {folder}, and training begins anew"
        )
    return 0


def _load(trainable: Trainable, path: Path, expected: str) -> None:
    """Set the state to that of ``path``, whose samples' digest must be ``expected``; after damage it may be mixed."""
    try:
        notes = on_first_rank(lambda: _whole(path))
    except (OSError, UserError) as error:
        raise _DamagedError(str(error)) from error
    if notes.consumed != expected:
        raise UserError(
            f"{path}: its {int(path.name.removeprefix(_STEP))} optimizer steps consumed other samples, or in another "
            f"order, than those of this run (digest {notes.consumed[:12]}, expected {expected[:12]}): plan, shards, "
            f"seed, held-out rows or batch size changed: put them back, or delete {path.parent}"
        )
    _tell_other_layout(path, notes.layout, trainable)
    try:
        loaded = dist_checkpointing.load(_everything(trainable, loading=True), str(path))
    except CheckpointException as error:
        raise _DamagedError(_reasons(error)) from error
    _set_weights(trainable.chunks, loaded["model"])
    for number, chunk in enumerate(trainable.chunks):
        chunk.load_state_dict(loaded["scales"].get(number, {}), strict=False)
    trainable.optimizer.load_state_dict(loaded["optimizer"])


def _whole(path: Path) -> _Notes:
    """The notes of a resume point of which every file is there and whole, by its size.

    Raises:
        OSError: a note cannot be read.
        UserError: another file cannot.
    """
    check_whole(path)
    if not (path / _COMMON).exists():
        raise UserError(f"{path / _COMMON} is missing")
    try:
        dist_checkpointing.load_common_state_dict(str(path))
    except _UNREADABLE as error:
        raise UserError(f"{path / _COMMON} cannot be read ({error})") from error
    texts = (path / name for name in (_CONSUMED, _LAYOUT))
    return _Notes(*(text.read_text(encoding="utf-8") for text in texts))


def _reasons(error: CheckpointException) -> str:
    """The first line of each: torch's go on with advice on ``torch.load``, which is not called by the user."""
    said = {f"{type(reason).__name__}: {reason}" for reason, _ in error.failures.values()}
    return "; ".join(sorted(text.splitlines()[0] for text in said))


def _tell_other_layout(path: Path, before: str, trainable: Trainable) -> None:
    """Log what may differ where ``path`` was written at another layout than this run's; it is no error."""
    now = _arrangement(trainable.layout)
    if before == now or distributed.get_rank() != 0:
        return
    fp8 = "; FP8 scales are of what each rank holds, and may differ too" if trainable.chunks[0].config.fp8 else ""
    log.warning(
        "%s was written at layout %s, this run has %s: it goes on with the same samples and state, but adds up in "
        "another order, so its losses are those of an unbroken run up to rounding%s",
        path,
        before,
        now,
        fp8,
    )


def _arrangement(layout: Layout) -> str:
    """``layout`` as JSON, without what changes no sum."""
    return json.dumps({name: value for name, value in asdict(layout).items() if name != "nodes"})


def _name(step: int) -> str:
    return f"{_STEP}{step:09d}"


def _points(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_STEP}*"))


def _weights(chunks: Sequence[GPTModel]) -> dict[int, dict[str, Any]]:
    """By number of the chunk; what is saved is named by keys of the whole model, whatever the chunks."""
    return {
        number: {name: value for name, value in chunk.sharded_state_dict().items() if not name.endswith(_EXTRA)}
        for number, chunk in enumerate(chunks)
    }


def _scales(chunks: Sequence[GPTModel]) -> dict[int, dict[str, Any]]:
    """Of delayed scaling: without them a resumed run would round its first micro-batches otherwise."""
    if chunks[0].config.fp8_recipe != "delayed":
        return {}
    return {
        number: {name: value for name, value in chunk.sharded_state_dict().items() if name.endswith(_EXTRA)}
        for number, chunk in enumerate(chunks)
    }


def _set_weights(chunks: Sequence[GPTModel], state: dict[int, dict[str, Any]]) -> None:
    for number, chunk in enumerate(chunks):
        result = chunk.load_state_dict(state[number], strict=False)
        absent = {name for name in result.missing_keys if not name.endswith(_EXTRA)} - _frozen(chunk)
        assert not absent and not result.unexpected_keys, (absent, result.unexpected_keys)


def _frozen(chunk: GPTModel) -> set[str]:
    return {name for name, parameter in chunk.named_parameters() if not parameter.requires_grad}


def _everything(trainable: Trainable, loading: bool) -> dict[str, Any]:
    """All but frozen weights, which a run that goes on has already: from the checkpoint that it started from."""
    weights = _weights(trainable.chunks)
    for number, chunk in enumerate(trainable.chunks):
        for name in _frozen(chunk):
            weights[number].pop(name, None)
    optimizer: MegatronOptimizer = trainable.optimizer
    how = {
        "distrib_optim_sharding_type": "fully_reshardable",
        "chained_optim_avoid_prefix": True,
        "dp_cp_group": parallel_state.get_data_parallel_group(with_context_parallel=True),
    }
    with torch.no_grad():
        return {
            "model": weights,
            "scales": _scales(trainable.chunks),
            "optimizer": optimizer.sharded_state_dict({"model": weights}, is_loading=loading, metadata=how),
        }
