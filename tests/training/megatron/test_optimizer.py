from __future__ import annotations

from typing import Any

import pytest
import torch

from msm_hpc.base.errors import UserError
from msm_hpc.config.training import TrainConfig
from msm_hpc.training.megatron.adam import FusedAdam


def test_fused_adam_is_adamw() -> None:
    settings: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    shapes = [(8, 4), (4,), (3, 5, 2)]
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in shapes]
    ours, theirs = ([tensor.clone().requires_grad_() for tensor in start] for _ in range(2))
    mine, reference = FusedAdam(ours, **settings), torch.optim.AdamW(theirs, **settings)
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_learning_rate": 1.0}, "min_learning_rate 1.0 is not between 0 and learning_rate 0.0001"),
        ({"micro_batch_size": 3}, "global_batch_size 16 is not a multiple of micro_batch_size 3"),
    ],
)
def test_numbers_that_make_no_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig(**changes)
