"""AdamW as Megatron's distributed optimizer expects it, where Transformer Engine and Apex are absent.

Megatron was written for their ``FusedAdam``, which keeps the step count in the parameter group and only the two moments
per parameter. With ``torch.optim.AdamW`` in its place megatron-core 0.16.1 trains, but cannot load its own checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class FusedAdam(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) over lists of tensors at a time."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        adam_w_mode: bool = True,
    ) -> None:
        assert adam_w_mode, "only decoupled weight decay is implemented"
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if params:
                group["step"] = group.get("step", 0) + 1
                self._update(group, params)

    def _update(self, group: dict[str, Any], params: list[torch.Tensor]) -> None:
        for param in params:
            if not self.state[param]:
                self.state[param] = {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
        gradients = [param.grad for param in params if param.grad is not None]
        means = [self.state[param]["exp_avg"] for param in params]
        squares = [self.state[param]["exp_avg_sq"] for param in params]
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        scale = torch._foreach_sqrt(squares)
        torch._foreach_div_(scale, (1 - beta2 ** group["step"]) ** 0.5)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_addcdiv_(params, means, scale, -group["lr"] / (1 - beta1 ** group["step"]))


def install() -> None:
    """Give :class:`FusedAdam` to Megatron's optimizers, where they have fallen back to torch's AdamW."""
    from megatron.core import optimizer
    from megatron.core.optimizer import distrib_optimizer

    if optimizer.USING_PYTORCH_OPTIMIZER:
        optimizer.Adam = distrib_optimizer.Adam = FusedAdam
        optimizer.USING_PYTORCH_OPTIMIZER = False
        distrib_optimizer.HAVE_APEX_OR_TE = distrib_optimizer.USING_APEX_OPTIMIZER = True
