from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.transformer_config import TransformerConfig

from msm_hpc.training.megatron.attention import PackedAttention, document_batches

BOUNDARIES = (0, 5, 6, 14, 14, 31, 47, 64)


@pytest.mark.parametrize("key_value_heads", [1, 2, 4])
def test_outputs_and_gradients_are_those_of_each_document_alone(key_value_heads: int) -> None:
    torch.manual_seed(0)
    query = torch.randn(64, 4, 8, requires_grad=True)
    key, value = (torch.randn(64, key_value_heads, 8, requires_grad=True) for _ in range(2))
    config = TransformerConfig(
        num_layers=1,
        hidden_size=32,
        num_attention_heads=4,
        num_query_groups=key_value_heads,
        use_cpu_initialization=True,
    )
    packed = PackedSeqParams(qkv_format="thd", cu_seqlens_q=torch.tensor(BOUNDARIES, dtype=torch.int32))
    out = PackedAttention(config, 1)(query, key, value, None, packed_seq_params=packed)

    expected = []
    for start, end in pairwise(BOUNDARIES):
        q, k, v = (states[start:end].transpose(0, 1)[None] for states in (query, key, value))
        k, v = (states.repeat_interleave(4 // key_value_heads, 1) for states in (k, v))
        expected.append(F.scaled_dot_product_attention(q, k, v, is_causal=True)[0].transpose(0, 1).flatten(1))
    reference = torch.cat(expected)
    torch.testing.assert_close(out, reference, rtol=0, atol=1e-6)

    weights = torch.randn_like(out)
    found = torch.autograd.grad((out * weights).sum(), [query, key, value])
    wanted = torch.autograd.grad((reference * weights).sum(), [query, key, value])
    for gradient, reference_gradient in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, reference_gradient, rtol=0, atol=1e-5)


def test_every_token_comes_back_to_its_place() -> None:
    plan = document_batches(BOUNDARIES, torch.device("cpu"))
    assert plan.gather[plan.scatter].tolist() == list(range(64))
    assert plan.shapes == ((1, 1), (2, 8), (1, 16), (2, 32))
    assert len(plan.gather) == sum(documents * width for documents, width in plan.shapes) < 2 * 64
