"""Sets the weights that a run starts from: drawn, of a checkpoint, or of one with a new adapter or its own.

========= ======== ================= =======================================================
``lora``  ``base`` ``checkpoint``    then
========= ======== ================= =======================================================
none      none     none              all weights are drawn from the seed
none      none     weights           they are trained
set       weights  none              they are frozen, and a new adapter is drawn
set       weights  an adapter        they are frozen, and the adapter of them is trained further
========= ======== ================= =======================================================

Everything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron.core.models.gpt import GPTModel

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import Lora, TrainConfig, TrainInputs
from msm_hpc.model.adapter import KEYS, Note, fingerprint, read_note
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.checkpoints.initial import initialise
from msm_hpc.training.checkpoints.weights import load_start, load_weights
from msm_hpc.training.megatron.lora import adapt
from msm_hpc.training.watch.rank0 import on_rank0


def set_weights(
    chunks: Sequence[GPTModel], config: TrainConfig, model: Transformer, inputs: TrainInputs
) -> Note | None:
    """Set the weights of ``chunks``, this rank's part of ``model``; with LoRA, freeze them and add an adapter.

    Args:
        chunks: as built.
        config: of the run.
        model: the whole model.
        inputs: of the run, of which ``base`` and ``checkpoint`` have weights.

    Returns:
        What to note of the adapter, where there is one.

    Raises:
        UserError: ``config.lora``, ``inputs.base`` and the adapter of ``inputs.checkpoint`` do not go together, or a
            checkpoint cannot be loaded.
    """
    start = inputs.checkpoint / "checkpoint" if inputs.checkpoint else None
    if config.lora is not None:
        return _set_adapter(chunks, config.seed, config.lora, model, _base(inputs), start)
    if inputs.base is not None:
        raise UserError(
            f"{inputs.base} is given as the base of an adapter, but lora is None: set lora, or give no base"
        )
    if start is None:
        initialise(chunks, config.seed, spread=config.initial_spread)
        return None
    if stored := read_note(start):
        raise UserError(_other(start, stored, None))
    load_start(chunks, start)
    return None


def _base(inputs: TrainInputs) -> Path:
    """The checkpoint with the weights to adapt."""
    if inputs.base is None:
        raise UserError(
            "lora is set, but this run is given no base, so there is nothing to adapt: give it, or set lora to null"
        )
    base = inputs.base / "checkpoint"
    if read_note(base):
        raise UserError(f"{base} holds an adapter, not the weights of a model: give as base what it was trained on")
    return base


def _set_adapter(
    chunks: Sequence[GPTModel], seed: int, lora: Lora, model: Transformer, base: Path, start: Path | None
) -> Note:
    """Freeze the weights of ``base``, and set an adapter of them: that of ``start``, or a new one."""
    load_start(chunks, base)
    note = Note(lora, on_rank0(lambda: fingerprint(base)))
    adapt(chunks, model, lora)
    if start is None:
        initialise(chunks, seed, only=KEYS)
        return note
    stored = read_note(start)
    if stored is None:
        raise UserError(f"{start} holds no adapter, but lora is {lora}: give it as base, where it is to be adapted")
    if stored.lora != lora:
        raise UserError(_other(start, stored, lora))
    stored.check_base(note.base, start, base)
    load_weights(chunks, start)
    return note


def _other(path: Path, stored: Note, lora: Lora | None) -> str:
    return (
        f"{path} holds an adapter of {stored.lora}, but lora is {lora}: a run continues with the same adapter; set "
        "lora to it, or start from a checkpoint without one"
    )
