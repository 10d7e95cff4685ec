"""A few steps of the real trainer on random tokens: what they take in time and memory does not hang on the data.

Each row is one document, so attention compares a token with the whole row: the most that packed rows can cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msm_hpc.architecture import Transformer
from msm_hpc.config.training import TrainConfig
from msm_hpc.training import cpu, precision
from msm_hpc.training.groups import process_groups
from msm_hpc.training.layout import check_layout
from msm_hpc.training.zigzag import RowShape
from tokenization.packing.plan import Piece

if TYPE_CHECKING:
    from msm_hpc.training.metrics import StepMetrics
    from msm_hpc.training.optimizer import Trainable

SHARD = "random"


@dataclass
class RandomRows:
    """``rows`` rows, each one document of ``sequence_length`` random tokens below ``vocab_size``."""

    rows: int
    sequence_length: int
    vocab_size: int
    pad_id: int = 0

    def __len__(self) -> int:
        return self.rows

    def row(self, index: int) -> list[Piece]:
        """The pieces of a row: its one document."""
        return [Piece(shard=SHARD, document=index, start=0, length=self.sequence_length)]

    def tokens(self, document: int) -> NDArray[np.int64]:
        """(sequence_length,) token ids, the same at each call."""
        return np.random.default_rng(document).integers(0, self.vocab_size, self.sequence_length)

    def loss_mask(self, document: int) -> NDArray[np.uint8]:
        """(sequence_length,) ones."""
        return np.ones(self.sequence_length, np.uint8)


def trial(config: TrainConfig, model: Transformer, steps: int) -> list[StepMetrics]:
    """Train ``steps`` steps from random weights, as one rank of ``config.layout.world_size``; writes nothing.

    Raises:
        UserError: the layout does not fit the model or the number of ranks, or the precision cannot be had here.
    """
    with cpu.redirected(), process_groups(config.layout, config.seed):
        from msm_hpc.training.data import SampleOrder
        from msm_hpc.training.loop import Data, train_step

        check_layout(config.layout, model, config.sequence_length)
        precision.check_here(config, model)
        rows = RandomRows(steps * config.global_batch_size, config.sequence_length, model.vocab_size)
        order = SampleOrder(len(rows), 1, config.global_batch_size, config.seed)
        data = Data(rows, {SHARD: rows}, order, model, _row_shape(config))
        trainable = _trainable(config, model, steps)
        return [train_step(trainable, data, config, step) for step in range(steps)]


def _row_shape(config: TrainConfig) -> RowShape:
    """As :func:`msm_hpc.training.zigzag.row_shape` of rows that are one document each."""
    layout = config.layout
    if layout.context_parallel == 1:
        return RowShape(config.sequence_length)
    multiple = 2 * layout.context_parallel
    parts = multiple * layout.tensor_parallel if layout.sequence_parallel else multiple
    return RowShape(-(-config.sequence_length // parts) * parts, multiple)


def _trainable(config: TrainConfig, model: Transformer, steps: int) -> Trainable:
    """Random weights; with an adapter beside them, where the config has one."""
    from msm_hpc.training.lora import adapt
    from msm_hpc.training.model import build_model, transformer_config
    from msm_hpc.training.optimizer import make_trainable
    from msm_hpc.training.weights import initialise

    chunks = build_model(model, transformer_config(model, config.layout, config.precision))
    if config.lora is not None:
        adapt(chunks, model, config.lora)
    initialise(chunks, config.seed)
    return make_trainable(chunks, config, steps)
