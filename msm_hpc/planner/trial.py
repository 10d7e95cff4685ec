"""A few steps of the real trainer on random tokens: what they take in time and memory does not hang on the data.

Where each row is one document, attention compares a token with the whole row: the most that packed rows can cost.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from msm_hpc.config.training import TrainConfig
from msm_hpc.model import precision
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.layout import check_layout
from msm_hpc.training.megatron import cpu
from msm_hpc.training.megatron.device import before_cuda, check_here
from msm_hpc.training.megatron.groups import process_groups
from msm_hpc.training.megatron.zigzag import row_shape
from tokenization.packing.plan import Piece

if TYPE_CHECKING:
    from msm_hpc.training.megatron.optimizer import Trainable
    from msm_hpc.training.record.metrics import StepMetrics

SHARD = "random"


@dataclass
class RandomRows:
    """``rows`` full rows, each of so many ``documents`` of random lengths and random tokens below ``vocab_size``."""

    rows: int
    sequence_length: int
    vocab_size: int
    documents: int = 1
    pad_id: int = 0

    def __len__(self) -> int:
        return self.rows

    def row(self, index: int) -> list[Piece]:
        """The pieces of a row: its documents, whole; the same at each call."""
        cuts = np.random.default_rng(index).choice(self.sequence_length - 1, self.documents - 1, replace=False) + 1
        edges = [0, *sorted(cuts.tolist()), self.sequence_length]
        first = index * self.documents
        return [Piece(SHARD, first + number, 0, end - begin) for number, (begin, end) in enumerate(pairwise(edges))]

    def longest_row(self, multiple: int) -> int:
        """Most tokens of a row, if each of its documents is padded to a multiple of ``multiple`` tokens."""
        rows = ([piece.length for piece in self.row(index)] for index in range(self.rows))
        return max(sum(-(-length // multiple) * multiple for length in lengths) for lengths in rows)

    def tokens(self, document: int) -> NDArray[np.int64]:
        """(sequence_length,) token ids, the same at each call, of which a document has the first."""
        return np.random.default_rng(document).integers(0, self.vocab_size, self.sequence_length)

    def loss_mask(self, document: int) -> NDArray[np.uint8]:
        """(sequence_length,) ones."""
        return np.ones(self.sequence_length, np.uint8)


def trial(config: TrainConfig, model: Transformer, steps: int, documents: int = 1) -> list[StepMetrics]:
    """Train ``steps`` steps from random weights, as one rank of ``config.layout.world_size``; writes nothing.

    Args:
        config: the training.
        model: its shape.
        steps: optimizer steps.
        documents: how many make up each row.

    Raises:
        UserError: the layout does not fit the model or the number of ranks, or the precision cannot be had here.
    """
    before_cuda()
    with cpu.redirected(), process_groups(config.layout, config.seed):
        measured = _train(config, model, steps, documents)
        gc.collect()  # Megatron's models hold on to themselves in cycles, and the next trial needs their memory
        return measured


def _train(config: TrainConfig, model: Transformer, steps: int, documents: int) -> list[StepMetrics]:
    from msm_hpc.training.data.order import SampleOrder
    from msm_hpc.training.data.reader import BatchReader
    from msm_hpc.training.step import train_step

    check_layout(config.layout, model, config.sequence_length)
    check_here(config, model)
    rows = RandomRows(steps * config.global_batch_size, config.sequence_length, model.vocab_size, documents)
    order = SampleOrder(len(rows), 1, config.global_batch_size, config.seed)
    shape = row_shape(rows, config.layout, precision.tokens_of_rank(config.precision))
    data = BatchReader(rows, {SHARD: rows}, order, model, shape)
    trainable = _trainable(config, model, steps)
    return [train_step(trainable, data, config, step) for step in range(steps)]


def _trainable(config: TrainConfig, model: Transformer, steps: int) -> Trainable:
    """Random weights; with an adapter beside them, where the config has one."""
    from msm_hpc.training.checkpoints.initial import initialise
    from msm_hpc.training.megatron.lora import adapt
    from msm_hpc.training.megatron.model import build_model, transformer_config
    from msm_hpc.training.megatron.optimizer import make_trainable

    chunks = build_model(model, transformer_config(model, config.layout, config.precision))
    if config.lora is not None:
        adapt(chunks, model, config.lora)
    initialise(chunks, config.seed)
    return make_trainable(chunks, config, steps)
