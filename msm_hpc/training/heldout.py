"""Loss on rows that are never trained on, for each value of a provenance field: which kinds of text are learnt.

The rows are drawn from the plan by a seed of their own, so every arm and seed of a campaign that trains on one plan
holds out the same rows. They are read like training rows, with one difference: where a training row's loss mask has a
1, a held-out row's has the number of the token's *group*, so it survives however a layout cuts and pads rows::

    documents      a: doc_type=news    b: doc_type=letter, of 3 and 2 tokens, all trainable
    groups         1 news, 2 letter
    loss mask      1 1 0 2 0           sum the losses where it is 1, and where it is 2

A group is a combination of values; a field's loss is summed over the groups that share its value. Other pieces of a
document that was cut over several rows may be trained on. All models here have dropout 0, so there is no evaluation
mode to switch to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from megatron.core import parallel_state
from numpy.typing import NDArray
from torch import Tensor, distributed

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import HeldOut, TrainConfig
from msm_hpc.training.data.batch import Documents, MicroBatch, Rows
from msm_hpc.training.data.order import SampleOrder
from msm_hpc.training.data.reader import BatchReader
from msm_hpc.training.megatron.optimizer import Trainable
from msm_hpc.training.record.metrics import FieldLoss
from msm_hpc.training.step import through_model, token_losses
from tokenization.documents import read_some
from tokenization.packing.plan import Piece

MOST_VALUES = 100
ABSENT = "(none)"
Values = tuple[str, ...]  # one for each field


class RowSubset:
    """Some rows of a plan, renumbered from 0."""

    def __init__(self, plan: Rows, rows: NDArray[np.int64]) -> None:
        self._plan, self._rows = plan, rows
        self.sequence_length, self.pad_id = plan.sequence_length, plan.pad_id

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> list[Piece]:
        """The pieces of one row."""
        return self._plan.row(int(self._rows[index]))


class GroupedDocuments:
    """The documents of a shard, whose loss mask holds the number of their group."""

    def __init__(self, documents: Documents, numbers: Mapping[int, int]) -> None:
        self._documents, self._numbers = documents, numbers

    def tokens(self, document: int) -> NDArray[np.integer[Any]]:
        """(length,) token ids of one document, unchanged."""
        return self._documents.tokens(document)

    def loss_mask(self, document: int) -> NDArray[np.integer[Any]]:
        """(length,) the group's number, from 1, where the token is a target."""
        return self._documents.loss_mask(document) * np.int32(self._numbers[document])


def hold_out(data: BatchReader, heldout: HeldOut) -> tuple[BatchReader, BatchReader]:
    """Split ``data`` into the rows to train on and the rows that are held out.

    Raises:
        UserError: nothing would be left to train on.
    """
    order, count = data.order, heldout.count(data.order.global_batch_size, len(data.plan))
    held = np.sort(SampleOrder(len(data.plan), 1, count, heldout.seed).global_batch(0))
    trained = np.setdiff1d(np.arange(len(data.plan)), held)
    train, rest = (
        replace(data, plan=RowSubset(data.plan, rows), order=replace(order, rows=len(rows))) for rows in (trained, held)
    )
    return train, replace(rest, order=replace(rest.order, epochs=1))


class HeldOutLoss:
    """Measures the loss on ``data``, which is held out; every rank makes one and calls :meth:`measure`.

    Args:
        data: the second value of :func:`hold_out`.
        config: of the run, with ``heldout``.
        shards: key to folder, of all shards.

    Attributes:
        every: after how many steps it is to be measured.

    Raises:
        UserError: no held-out document has one of the fields, or a field has too many values.
    """

    def __init__(self, data: BatchReader, config: TrainConfig, shards: Mapping[str, Path]) -> None:
        assert config.heldout is not None
        self.every = config.heldout.every
        self._fields, self._config = config.heldout.fields, config
        found = [_provenance(data.plan, shards, self._fields) if distributed.get_rank() == 0 else {}]
        distributed.broadcast_object_list(found, src=0)
        self._groups = sorted({values for shard in found[0].values() for values in shard.values()})
        self._check()
        number = {values: group for group, values in enumerate(self._groups, start=1)}
        self._data = replace(
            data,
            shards={
                key: GroupedDocuments(data.shards[key], {each: number[values] for each, values in shard.items()})
                for key, shard in found[0].items()
            },
        )

    def _check(self) -> None:
        for name, values in zip(self._fields, map(set, zip(*self._groups, strict=True)), strict=False):
            if values == {ABSENT}:
                raise UserError(
                    f"heldout.fields: no held-out document has {name!r} in its provenance, which "
                    "`python -m tokenization show DIR --row N` prints (DIR: the pack step's output)"
                )
            if len(values) > MOST_VALUES:
                raise UserError(
                    f"heldout.fields: {name!r} has {len(values)} values among the held-out documents, more than "
                    f"{MOST_VALUES}; name a field that sorts documents into few kinds"
                )

    def measure(self, trainable: Trainable, step: int) -> list[FieldLoss]:
        """The losses after ``step`` steps, on every rank: of all tokens, then for each field and value."""
        total = torch.zeros(len(self._groups), 2, dtype=torch.float64, device=torch.cuda.current_device())
        with torch.no_grad():
            for batch in range(self._data.order.steps):
                for table in self._forward(trainable, batch):
                    total += table
        distributed.all_reduce(total, group=parallel_state.get_data_parallel_group(with_context_parallel=True))
        last = parallel_state.get_pipeline_model_parallel_last_rank()
        distributed.broadcast(total, src=last, group=parallel_state.get_pipeline_model_parallel_group())
        return self._by_field(step, total.tolist())

    def _forward(self, trainable: Trainable, batch: int) -> list[Tensor]:
        rows = self._config.micro_batch_size
        step = partial(_forward_step, len(self._groups))
        batches = self._data.read(batch, rows)
        return through_model(trainable, batches, step, rows * self._data.shape.width, forward_only=True)

    def _by_field(self, step: int, total: list[list[float]]) -> list[FieldLoss]:
        sums: defaultdict[tuple[str | None, str | None], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for values, (loss, tokens) in zip(self._groups, total, strict=True):
            for key in ((None, None), *zip(self._fields, values, strict=True)):
                sums[key][0] += loss
                sums[key][1] += tokens
        return [
            FieldLoss(step, field, value, loss / tokens, int(tokens))
            for (field, value), (loss, tokens) in sums.items()
            if tokens
        ]


def _provenance(plan: Rows, shards: Mapping[str, Path], fields: Sequence[str]) -> dict[str, dict[int, Values]]:
    """The values of ``fields``, by shard and document, of the documents of ``plan``."""
    needed: defaultdict[str, set[int]] = defaultdict(set)
    for row in range(len(plan)):
        for piece in plan.row(row):
            needed[piece.shard].add(piece.document)
    return {
        key: {
            number: tuple(str(record.provenance.get(name, ABSENT)) for name in fields)
            for number, record in read_some(shards[key], documents).items()
        }
        for key, documents in sorted(needed.items())
    }


def _forward_step(
    groups: int, batches: Iterator[MicroBatch], model: torch.nn.Module
) -> tuple[Tensor, partial[tuple[Tensor, Tensor, Tensor]]]:
    batch = next(batches)
    return token_losses(model, batch), partial(_table, groups, batch.loss_mask)


def _table(groups: int, numbers: Tensor, losses: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For Megatron's schedule: loss, tokens, and what to report, float64 [groups, 2] of summed losses and of tokens."""
    flat = losses.reshape(-1).double()
    table = torch.zeros(groups + 1, 2, dtype=torch.float64, device=losses.device)
    table.index_add_(0, numbers.reshape(-1).long(), torch.stack([flat, torch.ones_like(flat)], dim=1))
    return losses.sum(), numbers.count_nonzero().to(torch.int), table[1:]
