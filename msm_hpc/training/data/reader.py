"""Reads the micro-batches of a run from its pack plan and shards, after checking that they are for this model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from megatron.core import parallel_state

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json, sha256_of
from msm_hpc.config.training import TrainConfig, TrainInputs
from msm_hpc.model import precision
from msm_hpc.model.architecture import Transformer
from msm_hpc.training.data.batch import Documents, MicroBatch, Rows, micro_batch
from msm_hpc.training.data.order import SampleOrder
from msm_hpc.training.megatron.zigzag import RowShape, row_shape
from tokenization.packing.plan import Plan


@dataclass(frozen=True)
class BatchReader:
    """Reads micro-batches: the rows of ``plan`` in ``order``, with tokens from ``shards``, each row in ``shape``."""

    plan: Rows
    shards: Mapping[str, Documents]
    order: SampleOrder
    model: Transformer
    shape: RowShape

    def read(self, step: int, size: int) -> list[MicroBatch]:
        """The micro-batches of this rank in step ``step`` (from 0).

        Ranks of one model replica read the same rows; each context-parallel rank keeps its share of their tokens.
        """
        device = torch.cuda.current_device()
        rank, ranks = parallel_state.get_context_parallel_rank(), parallel_state.get_context_parallel_world_size()
        return [
            micro_batch(self.plan, self.shards, rows, self.shape).part(rank, ranks).to(device)
            for rows in self._rows(step, size)
        ]

    def samples(self, step: int, size: int) -> list[tuple[str, ...]]:
        """The documents of each micro-batch that :meth:`read` returns, as ``shard#document``."""
        return [
            tuple(f"{piece.shard}#{piece.document}" for row in rows for piece in self.plan.row(row))
            for rows in self._rows(step, size)
        ]

    def _rows(self, step: int, size: int) -> list[list[int]]:
        rank = parallel_state.get_data_parallel_rank()
        ranks = parallel_state.get_data_parallel_world_size()
        return self.order.micro_batches(step, size, rank, ranks)


def open_data(config: TrainConfig, model: Transformer, inputs: TrainInputs) -> BatchReader:
    """Open the packed rows of ``inputs``, which must be for this model.

    Raises:
        UserError: another sequence length, another tokenizer or more tokens than the model has, a shard is missing or
            not the one that was packed, or the rows of all epochs do not fill one global batch.
    """
    plan = Plan(inputs.plan)
    if plan.sequence_length != config.sequence_length:
        raise UserError(
            f"{inputs.plan}: packed for sequence_length {plan.sequence_length}, training has "
            f"{config.sequence_length}; pack again or change sequence_length"
        )
    _check_tokenizer(inputs.plan / "manifest.json", inputs.model / "tokenizer.json", model.vocab_size)
    check_fills_a_batch(config, len(plan))
    shards = plan.open_shards(inputs.shards)
    order = SampleOrder(len(plan), config.epochs, config.global_batch_size, config.seed)
    shape = row_shape(plan, config.layout, precision.tokens_of_rank(config.precision))
    return BatchReader(plan, shards, order, model, shape)


def check_fills_a_batch(config: TrainConfig, rows: int) -> None:
    """Check that ``rows`` packed rows, over all epochs, fill one global batch.

    Raises:
        UserError: they do not; names the largest global batch size that they fill.
    """
    samples = rows * config.epochs
    if samples >= config.global_batch_size:
        return
    at_once = config.micro_batch_size * config.layout.data_parallel
    largest = samples // at_once * at_once
    fix = f"to {largest}" if largest else f"and micro_batch_size x data_parallel ({at_once}) to {samples} or less"
    raise UserError(
        f"global_batch_size {config.global_batch_size} is more than the {samples} rows that there are to train on "
        f"({rows} packed rows x {config.epochs} epochs), so rows would be repeated within an optimizer step; lower "
        f"global_batch_size {fix}, or give more data or epochs"
    )


def _check_tokenizer(plan: Path, tokenizer: Path, vocab_size: int) -> None:
    used = read_json(plan)["tokenizer"]
    if used["vocab_size"] > vocab_size:
        raise UserError(
            f"{plan}: tokenizer.vocab_size: tokenised with a vocabulary of {used['vocab_size']}, but the model has "
            f"vocab_size {vocab_size}; tokenise with the model's own tokenizer"
        )
    own = sha256_of(tokenizer)
    if used["tokenizer_sha256"] != own:
        raise UserError(
            f"{plan}: tokenizer.tokenizer_sha256: tokenised with another tokenizer ({used['tokenizer_sha256'][:12]}) "
            f"than {tokenizer} ({own[:12]}); tokenise with the model's own tokenizer"
        )
