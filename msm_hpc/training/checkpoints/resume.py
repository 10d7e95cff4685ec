"""Resume checkpoints: all that a run needs to continue after some step, at this layout or another.

A *resume checkpoint* holds the weights that are trained (with LoRA the adapter alone), the optimizer's state (float32
weights, two moments, step count), the scales of delayed FP8 scaling, the digest of the samples used so far, and the
layout. Its folder is named by its step, and gets that name only when all of it is on disk.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state
from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.base.checkpoint_index import ForeignNameError, read_index
from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Layout
from msm_hpc.model.adapter import Note, read_note
from msm_hpc.training.checkpoints.async_save import AsyncSave
from msm_hpc.training.checkpoints.carry_over import STEP, resume_checkpoints
from msm_hpc.training.checkpoints.checks import check_hashes
from msm_hpc.training.checkpoints.weights import (
    reasons,
    set_sharded_weights,
    sharded_scales,
    trained_weights,
)
from msm_hpc.training.megatron.optimizer import Trainable, gather_weights
from msm_hpc.training.megatron.private import RESHARDABLE, load
from msm_hpc.training.watch.rank0 import on_rank0

log = logging.getLogger(__name__)
Consumed = Callable[[int], str]

KEPT = 2  # resume checkpoints: the older one is for a file system that loses the newer
_CONSUMED = "consumed.sha256"
_LAYOUT = "layout.json"


class ResumeSaver:
    """Writes resume checkpoints into ``folder`` while training continues, at most one at a time.

    Every rank must call :meth:`begin` and :meth:`finish`. ``consumed`` returns the digest of the samples of the first
    so many steps.
    """

    def __init__(self, trainable: Trainable, folder: Path, consumed: Consumed) -> None:
        self._trainable, self._folder, self._consumed = trainable, folder, consumed
        self._save: AsyncSave | None = None

    @property
    def is_writing(self) -> bool:
        """Whether this rank is still writing its part."""
        return self._save is not None and self._save.is_writing

    def begin(self, step: int) -> None:
        """Copy the state after ``step`` steps and begin to write it; an earlier checkpoint is finished first."""
        self.finish()
        gather_weights(self._trainable)
        state = _sharded_state(self._trainable, loading=False)
        adapter = self._trainable.adapter
        notes = {_CONSUMED: self._consumed(step), _LAYOUT: _layout_json(self._trainable.layout)}
        notes |= adapter.files if adapter else {}
        self._save = AsyncSave(state, self._folder / _name(step), notes)

    def finish(self) -> None:
        """Complete the checkpoint that is being written, if any, and then delete all but the newest :data:`KEPT`.

        Raises:
            UserError: it could not be written.
        """
        if self._save is None:
            return
        save, self._save = self._save, None
        save.finish()
        if distributed.get_rank() == 0:
            for older in resume_checkpoints(self._folder)[:-KEPT]:
                shutil.rmtree(older)


class _DamagedError(Exception):
    """A resume checkpoint cannot be used, but an older one may be whole."""


@dataclass(frozen=True)
class _Notes:
    """The texts beside a resume checkpoint."""

    consumed: str
    layout: str
    adapter: Note | None


def load_resume_checkpoint(trainable: Trainable, folder: Path, consumed: Consumed, recorded: int) -> int:
    """Restore the state from the newest resume checkpoint in ``folder`` that is whole; every rank must call this.

    One of more than the ``recorded`` steps, of which there are metrics, is of no use.

    Returns:
        How many steps are done; 0 if there is no resume checkpoint.

    Raises:
        UserError: the checkpoint comes from other samples, or another order of them, than ``consumed`` says; or there
            are checkpoints, and none can be used; or it holds the adapter of another base; or somebody has put names
            into its index that are no part of one.
    """
    damages = []
    for path in on_rank0(lambda: resume_checkpoints(folder)[::-1]):
        step = int(path.name.removeprefix(STEP))
        try:
            if step > recorded:
                raise _DamagedError(f"the metrics of its steps after the first {recorded} are missing")
            _load(trainable, path, consumed(step))
        except _DamagedError as damage:
            damages.append(f"{path.name}: {damage}")
            if distributed.get_rank() == 0:
                log.warning("%s cannot be used, so the one before it is tried: %s", path, damage)
            continue
        return step
    if damages:
        raise UserError(
            f"{folder}: no resume checkpoint can be used ({'; '.join(damages)}): delete {folder}, and training starts "
            "again from its first step"
        )
    return 0


def _load(trainable: Trainable, path: Path, expected: str) -> None:
    """Set the state to that of ``path``, whose samples' digest must be ``expected``; if damaged, state may be mixed."""
    try:
        check_hashes(path)
        notes = on_rank0(lambda: _notes(path))
    except ForeignNameError:  # no damage: somebody's hand
        raise
    except (OSError, UserError) as error:
        raise _DamagedError(str(error)) from error
    if notes.consumed != expected:
        raise UserError(
            f"{path}: its {int(path.name.removeprefix(STEP))} optimizer steps used other samples, or another order "
            f"of them, than this run (digest {notes.consumed[:12]}, expected {expected[:12]}): plan, shards, seed, "
            f"held-out rows or batch size changed: put them back, or delete {path.parent}"
        )
    if notes.adapter and trainable.adapter and notes.adapter != trainable.adapter:
        raise UserError(
            f"{path} holds {notes.adapter}, and this run trains {trainable.adapter}: its base was made again since; "
            f"delete {path.parent}, and training starts again from its first step"
        )
    _warn_of_other_layout(path, notes.layout, trainable)
    try:
        loaded = load(_sharded_state(trainable, loading=True), path)
    except CheckpointException as error:
        raise _DamagedError(reasons(error)) from error
    set_sharded_weights(trainable.chunks, loaded["model"])
    for number, chunk in enumerate(trainable.chunks):
        chunk.load_state_dict(loaded["scales"].get(number, {}), strict=False)
    trainable.optimizer.load_state_dict(loaded["optimizer"])


def _notes(path: Path) -> _Notes:
    read_index(path)  # here, where what it refuses is not yet one of torch's failures of a rank
    consumed, layout = ((path / name).read_text(encoding="utf-8") for name in (_CONSUMED, _LAYOUT))
    return _Notes(consumed, layout, read_note(path))


def _warn_of_other_layout(path: Path, before: str, trainable: Trainable) -> None:
    """Log what may differ where ``path`` was written at another layout than this run's; it is no error."""
    now = _layout_json(trainable.layout)
    if before == now or distributed.get_rank() != 0:
        return
    fp8 = "; FP8 scales depend on what each rank holds, and may differ too" if trainable.chunks[0].config.fp8 else ""
    log.warning(
        "%s was written at layout %s, this run has %s: it resumes with the same samples and state, but sums are taken "
        "in another order, so its losses equal those of an unbroken run up to rounding%s",
        path,
        before,
        now,
        fp8,
    )


def _layout_json(layout: Layout) -> str:
    """``layout`` as JSON, without what changes no sum."""
    return json.dumps({name: value for name, value in asdict(layout).items() if name not in ("nodes", "recompute")})


def _name(step: int) -> str:
    return f"{STEP}{step:09d}"


def _sharded_state(trainable: Trainable, loading: bool) -> dict[str, Any]:
    """All state but frozen weights, which a resumed run has already read from the checkpoint that they are of."""
    weights = trained_weights(trainable.chunks)
    group = parallel_state.get_data_parallel_group(with_context_parallel=True)
    with torch.no_grad():
        return {
            "model": weights,
            "scales": sharded_scales(trainable.chunks),
            "optimizer": trainable.optimizer.sharded_state_dict(
                {"model": weights}, is_loading=loading, metadata=RESHARDABLE | {"dp_cp_group": group}
            ),
        }
