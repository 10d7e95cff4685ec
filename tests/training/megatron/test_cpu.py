from __future__ import annotations

import pytest
import torch

from msm_hpc.training.megatron import cpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: nothing is redirected")


def test_every_redirection_is_put_back() -> None:
    with cpu.redirected():
        pass  # Megatron is imported, and torch's compiler with it: this changes torch for good
    watched = [(torch, vars(torch)), (torch.cuda, vars(torch.cuda)), (torch.distributed, vars(torch.distributed))]
    before = [dict(names) for _, names in watched]
    tensor_type, module_cuda = torch.Tensor.type, torch.nn.Module.cuda
    with cpu.redirected():
        assert torch.zeros(2, device="cuda").device.type == "cpu"
        assert torch.ones(2).cuda().device.type == "cpu"
        assert torch.ones(2).type() == "torch.FloatTensor", "only Megatron sees otherwise"
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


def test_the_buffer_of_a_rank_alone_is_neither_moved_nor_exchanged() -> None:
    from msm_hpc.config.training import Layout
    from msm_hpc.training.megatron.groups import process_groups

    with cpu.redirected(), process_groups(Layout(), 0):
        from megatron.core import parallel_state
        from megatron.core.distributed import param_and_grad_buffer

        group = parallel_state.get_data_parallel_group()
        for collective in (param_and_grad_buffer.dist_all_gather_func, param_and_grad_buffer.dist_reduce_scatter_func):
            buffer = torch.arange(4.0)
            collective(buffer, buffer[:], group=group, async_op=False)
            assert torch.equal(buffer, torch.arange(4.0))
            with pytest.raises(AssertionError, match="between two buffers"):
                collective(torch.zeros(4), buffer, group=group, async_op=False)
