"""Sets the weights that a run starts from: drawn, of a checkpoint, or of one with a new adapter or its own.

============ ============================== ==========================================
``lora``     the checkpoint                 then
============ ============================== ==========================================
none         none                           all weights are drawn from the seed
none         without an adapter             its weights are trained
set          without an adapter             they are frozen, and a new adapter is drawn
set          with the same adapter          that adapter is trained further
============ ============================== ==========================================

Everything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron.core.models.gpt import GPTModel

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.checkpoints.initial import initialise
from msm_hpc.training.checkpoints.weights import load_weights
from msm_hpc.training.megatron.lora import adapt


def set_weights(chunks: Sequence[GPTModel], config: TrainConfig, model: Transformer, start: Path | None) -> None:
    """Set the weights of ``chunks``, this rank's part of ``model``; with LoRA, freeze them and add an adapter.

    Args:
        chunks: as built.
        config: of the run.
        model: the whole model.
        start: output of the step that the run starts from; None draws the weights.

    Raises:
        UserError: the checkpoint has an adapter and ``config.lora`` is not the same, there is nothing to adapt, or the
            checkpoint cannot be loaded.
    """
    lora = config.lora
    if start is None:
        if lora is not None:
            raise UserError(
                "lora is set, but this run starts from no checkpoint, so there is nothing to adapt: unset it"
            )
        initialise(chunks, config.seed)
        return
    path = start / "checkpoint"
    stored = adapter.read_note(path)
    if stored not in (None, lora):
        raise UserError(
            f"{path} holds an adapter of {stored}, but lora is {lora}: a run continues with the same adapter; set "
            "lora to it, or start from a checkpoint without one"
        )
    if stored is not None and lora is not None:
        adapt(chunks, model, lora)
    load_weights(chunks, path)
    if stored is None and lora is not None:
        adapt(chunks, model, lora)
        initialise(chunks, config.seed, only=adapter.KEYS)
