from __future__ import annotations

import pytest
import torch

from msm_hpc.training import cpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing is redirected")


def test_every_redirection_is_put_back() -> None:
    watched = [(torch, vars(torch)), (torch.cuda, vars(torch.cuda)), (torch.distributed, vars(torch.distributed))]
    before = [dict(names) for _, names in watched]
    tensor_type, module_cuda = torch.Tensor.type, torch.nn.Module.cuda
    with cpu.redirected():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.ones(2).cuda().device.type == "cpu"
        assert torch.ones(2).type() == "torch.FloatTensor", "only Megatron is told otherwise"
    assert torch.Tensor.type is tensor_type and torch.nn.Module.cuda is module_cuda
    for (_, names), old in zip(watched, before, strict=True):
        assert {name for name in old if names[name] is not old[name]} == set()
    with pytest.raises((AssertionError, RuntimeError)):
        torch.zeros(2, device="cuda")


def test_an_exception_puts_it_back_too() -> None:
    zeros = torch.zeros
    with pytest.raises(KeyError), cpu.redirected():
        raise KeyError
    assert torch.zeros is zeros
