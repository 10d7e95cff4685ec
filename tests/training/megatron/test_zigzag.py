from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from msm_hpc.config.training import Layout
from msm_hpc.training.data.batch import micro_batch
from msm_hpc.training.megatron.zigzag import RowShape, positions, row_shape
from tests.training.data.test_batch import TwoRows
from tests.training.toy import Corpus, add_chat, write_inputs
from tokenization.packing.plan import Plan
from tokenization.shards import Shard, ShardWriter


def test_the_docstrings_example() -> None:
    edges = np.array([0, 8, 12])
    assert positions(edges, 0, 2).tolist() == [0, 1, 6, 7, 8, 11]
    assert positions(edges, 1, 2).tolist() == [2, 3, 4, 5, 9, 10]


def test_tokens_go_to_the_ranks_that_transformer_engine_expects() -> None:
    edges = [0, 8, 8, 32, 40, 64]
    command = [sys.executable, "-m", "tests.training.te_zigzag", *map(str, edges)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two, four = json.loads(done.stdout.splitlines()[-1])
    for ranks, expected in ((2, two), (4, four)):
        assert [positions(np.array(edges), rank, ranks).tolist() for rank in range(ranks)] == expected


@pytest.mark.parametrize(
    ("layout", "of_rank", "multiple", "of_width"),
    [
        (Layout(), 16, 1, 32),
        (Layout(context_parallel=2), 1, 4, 4),
        (Layout(context_parallel=2, tensor_parallel=4, sequence_parallel=True), 1, 4, 8),
        (Layout(context_parallel=4, tensor_parallel=2), 1, 8, 8),
        (Layout(context_parallel=2, tensor_parallel=2, sequence_parallel=True), 16, 4, 64),
    ],
)
def test_every_row_of_a_plan_fits_its_shape(
    tmp_path: Path, layout: Layout, of_rank: int, multiple: int, of_width: int
) -> None:
    plan = Plan(write_inputs(tmp_path, Corpus(documents=60)).plan)
    shape = row_shape(plan, layout, of_rank)
    assert shape.multiple == multiple and shape.width % of_width == 0
    sums = [sum(-(-piece.length // multiple) * multiple for piece in plan.row(row)) for row in range(len(plan))]
    assert max(sums) <= shape.width < max(max(sums), plan.sequence_length) + of_width


def test_ranks_together_have_every_token_and_target_of_the_batch_once(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 100) as writer:
        for length in (3, 2, 20):
            add_chat(writer, np.arange(10, 10 + length, dtype=np.int32), np.ones(length, np.uint8))
    shards = {"chats/0": Shard(tmp_path)}
    whole = micro_batch(TwoRows(), shards, [0, 1])
    padded = micro_batch(TwoRows(), shards, [0, 1], RowShape(width=12, multiple=4))
    assert padded.boundaries.tolist() == [0, 4, 8, 12, 20, 24] and padded.tokens.shape == (1, 24)
    assert (padded.real_tokens, padded.pairs) == (whole.real_tokens, whole.pairs)
    parts = [padded.part(rank, 2) for rank in range(2)]
    assert all(part.tokens.shape == part.labels.shape == part.loss_mask.shape == (1, 12) for part in parts)
    found = sorted(target for part in parts for target in _targets(part.labels, part.loss_mask))
    assert found == sorted(_targets(whole.labels, whole.loss_mask))
    assert sorted(token for part in parts for token in part.tokens[0].tolist()) == sorted(padded.tokens[0].tolist())


def _targets(labels: Tensor, mask: Tensor) -> list[int]:
    found: list[int] = labels[mask == 1].tolist()
    return found
