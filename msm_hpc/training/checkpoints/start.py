"""What a run starts from: drawn weights, a checkpoint, a checkpoint with a new adapter, or one with its own.

============ ============================== ==========================================
``lora``     the checkpoint                 then
============ ============================== ==========================================
none         none                           all weights are drawn from the seed
none         without an adapter             its weights are trained
set          without an adapter             they are frozen, and a new adapter is drawn
set          with the same adapter          that one goes on being trained
============ ============================== ==========================================

All else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from megatron.core.models.gpt import GPTModel

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.checkpoints.resume import load_weights
from msm_hpc.training.checkpoints.weights import initialise
from msm_hpc.training.megatron.lora import adapt


def set_weights(chunks: Sequence[GPTModel], config: TrainConfig, model: Transformer, start: Path | None) -> None:
    """Set the weights of ``chunks``, this rank's part of ``model``; with LoRA, freeze them and add an adapter.

    Args:
        chunks: as built.
        config: of the run.
        model: the whole.
        start: output of the step that the run starts from.

    Raises:
        UserError: there is an adapter where ``config.lora`` asks for none or another one, nothing to adapt, or the
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
            f"{path} holds an adapter of {stored}, but lora is {lora}: a run goes on with the same adapter; set "
            "lora to it, or start from a checkpoint without one"
        )
    if stored is not None and lora is not None:
        adapt(chunks, model, lora)
    load_weights(chunks, path)
    if stored is None and lora is not None:
        adapt(chunks, model, lora)
        initialise(chunks, config.seed, only=adapter.KEYS)
