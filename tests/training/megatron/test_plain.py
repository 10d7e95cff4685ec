"""What replaces Megatron's functions on a CPU computes their bits, and their gradients' bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from msm_hpc.config.training import Layout
from msm_hpc.training.megatron.groups import process_groups

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing is replaced")


@pytest.fixture(autouse=True)
def one_rank() -> Iterator[None]:
    with process_groups(Layout()):
        torch.manual_seed(0)
        yield


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of the inputs."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    output = function(*leaves)
    weights = torch.arange(1.0, output.numel() + 1).view_as(output).sin().to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, leaves, weights)]


def same_bits(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("edges", [[0, 7], [0, 3, 4, 11], [0, 5, 5, 9]])
def test_rotation_is_that_of_megatron(edges: list[int], dtype: torch.dtype) -> None:
    from megatron.core import parallel_state

    from msm_hpc.training.megatron import private
    from msm_hpc.training.megatron.rope import rotate_packed

    boundaries, group = torch.tensor(edges, dtype=torch.int32), parallel_state.get_context_parallel_group()
    angles = torch.randn(max(b - a for a, b in pairwise(edges)), 1, 1, 8)
    # As in a layer: queries are a part of one tensor of queries, keys and values.
    states = torch.randn(edges[-1], 2, 24).to(dtype)

    def rotated(function: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda mixed: function(mixed[..., 8:16], boundaries, angles, mscale=1.25, cp_group=group)

    assert same_bits(
        with_gradients(rotated(rotate_packed), states), with_gradients(rotated(private.rotate_packed), states)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_that_of_megatron(bias: bool, dtype: torch.dtype) -> None:
    from msm_hpc.training.megatron import plain, private

    options: dict[str, Any] = {
        "gradient_accumulation_fusion": False,
        "allreduce_dgrad": False,
        "sequence_parallel": False,
        "grad_output_buffer": None,
        "wgrad_deferral_limit": None,
        "tp_group": None,
    }
    inputs = [torch.randn(37, 1, 64).to(dtype), torch.randn(48, 64).to(dtype)]
    inputs += [torch.randn(48).to(dtype)] if bias else []

    def of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda states, weight, bias=None: function(states, weight, bias, **options)

    assert same_bits(with_gradients(of(plain.linear), *inputs), with_gradients(of(private.linear), *inputs))


def test_largest_logits_are_those_of_megatron() -> None:
    from megatron.core.tensor_parallel.cross_entropy import VocabParallelCrossEntropy

    from msm_hpc.training.megatron import cpu, plain

    logits = torch.randn(5, 1, 12)
    logits[..., 9:] = -torch.inf
    found = VocabParallelCrossEntropy.calculate_logits_max(logits)
    assert cpu._active and same_bits(list(found), list(plain.largest_logits(logits)))
    assert same_bits(list(found), [logits, torch.max(logits, dim=-1)[0]])


def test_gradients_are_clipped_as_megatron_does() -> None:
    from megatron.core.utils import local_multi_tensor_l2_norm, local_multi_tensor_scale

    from msm_hpc.training.megatron import plain

    flag = torch.zeros(1, dtype=torch.int)
    gradients = [torch.randn(300), torch.randn(7), torch.randn(64)]
    own, _ = plain.norm(0, flag, [gradients], False)
    assert torch.equal(own, local_multi_tensor_l2_norm(0, flag, [gradients], False)[0])
    copies = [each.clone() for each in gradients]
    plain.scale(0, flag, [gradients, gradients], 0.37)
    local_multi_tensor_scale(0, flag, [copies, copies], 0.37)
    assert same_bits(gradients, copies)
    with pytest.raises(AssertionError, match="in place"):
        plain.scale(0, flag, [gradients, copies], 0.37)
