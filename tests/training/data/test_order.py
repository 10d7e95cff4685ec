from __future__ import annotations

from dataclasses import replace

from msm_hpc.training.data.order import SampleOrder


def test_every_epoch_has_every_row_in_another_order() -> None:
    order = SampleOrder(rows=10, epochs=3, global_batch_size=4, seed=5)
    assert (order.steps, order.filled) == (8, 2)
    samples = [row for step in range(order.steps) for row in order.global_batch(step)]
    epochs = [samples[begin : begin + 10] for begin in (0, 10, 20)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = replace(order, seed=6)
    assert samples != [row for step in range(other.steps) for row in other.global_batch(step)]


def test_ranks_share_out_the_same_global_batch() -> None:
    order = SampleOrder(rows=100, epochs=1, global_batch_size=12, seed=0)
    for size, ranks in [(1, 1), (2, 3), (3, 2), (12, 1)]:
        read = [rows for rank in range(ranks) for rows in order.micro_batches(4, size, rank, ranks)]
        assert all(len(rows) == size for rows in read)
        assert sorted(row for rows in read for row in rows) == sorted(order.global_batch(4))
