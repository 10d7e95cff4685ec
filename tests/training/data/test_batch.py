from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch

from msm_hpc.training.data.batch import micro_batch
from tests.training.toy import Corpus, add_chat, write_inputs
from tokenization.packing.plan import Piece, Plan
from tokenization.shards import Shard, ShardWriter


class TwoRows:
    sequence_length, pad_id = 8, 1

    def __len__(self) -> int:
        return 2

    def row(self, index: int) -> list[Piece]:
        whole = [Piece("chats/0", 0, 0, 3), Piece("chats/0", 1, 0, 2)]
        return [whole, [Piece("chats/0", 2, 4, 8)]][index]


def test_micro_batch_of_the_docstring(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, 100) as shard:
        add_chat(shard, np.array([10, 11, 12], np.int32), np.array([0, 1, 0], np.uint8))
        add_chat(shard, np.array([20, 21], np.int32), np.ones(2, np.uint8))
        add_chat(shard, np.arange(40, 60, dtype=np.int32), np.ones(20, np.uint8))
    batch = micro_batch(TwoRows(), {"chats/0": Shard(tmp_path)}, [0, 1])
    assert batch.tokens.tolist() == [[10, 11, 12, 20, 21, 1, 1, 1, *range(44, 52)]]
    assert batch.labels.tolist() == [[11, 12, 1, 21, 1, 1, 1, 1, *range(45, 52), 1]]
    assert batch.loss_mask.tolist() == [[1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]]
    assert batch.boundaries.tolist() == [0, 3, 5, 8, 16]
    assert (batch.longest, batch.real_tokens) == (8, 13)


def test_whole_plan_has_every_token_and_every_target_once(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, Corpus(documents=50))
    shard, plan = Shard(inputs.shards["chats"]), Plan(inputs.plan)
    batch = micro_batch(plan, {"chats/0": shard}, range(len(plan)))
    assert batch.real_tokens == sum(shard.lengths)
    targets = [
        int(token)
        for document in range(len(shard))
        for token, trainable in zip(shard.tokens(document)[1:], shard.loss_mask(document)[1:], strict=True)
        if trainable
    ]
    assert Counter(batch.labels[batch.loss_mask == 1].tolist()) == Counter(targets)
    assert batch.loss_mask.dtype == torch.float32 and batch.boundaries.dtype == torch.int32
