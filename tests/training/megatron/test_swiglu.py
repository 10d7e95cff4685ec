from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from megatron.core.transformer.transformer_config import TransformerConfig

from msm_hpc.training.megatron.swiglu import SwiGLU


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradient_are_those_of_autograd_to_the_bit(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    both = torch.randn(5, 1, 12, dtype=dtype, requires_grad=True)
    gradient = torch.randn(5, 1, 6, dtype=dtype)
    gate, value = both.chunk(2, dim=-1)
    expected = F.silu(gate) * value
    output = SwiGLU(TransformerConfig(num_layers=1, hidden_size=6, num_attention_heads=1))(both)
    assert torch.equal(output, expected) and output.dtype == dtype
    assert torch.equal(*(torch.autograd.grad(each, both, gradient)[0] for each in (output, expected)))
