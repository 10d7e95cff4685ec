from __future__ import annotations

import numpy as np
import pytest

from msm_hpc.base.permutation import permutation


def test_a_permutation_is_pinned() -> None:
    """Another one would change which samples an experiment trains on."""
    assert permutation(8, 0, "documents of chats").tolist() == [1, 5, 7, 2, 6, 3, 0, 4]
    assert sorted(permutation(1000, 3, "x").tolist()) == list(range(1000))


@pytest.mark.parametrize("epoch", [0, 1, 2**32])
def test_the_order_of_an_epoch_is_pinned(epoch: int) -> None:
    """A resumed training must see the rows that it would have seen."""
    expected = np.argsort(np.random.PCG64([7, epoch]).random_raw(50), kind="stable")
    assert permutation(50, 7, epoch).tolist() == expected.tolist()
