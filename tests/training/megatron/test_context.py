"""Context-parallel attention, all ranks in this process; over real ranks it runs in ``test_layouts``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor

from msm_hpc.training.megatron import context
from msm_hpc.training.megatron.attention import PackedAttention
from msm_hpc.training.megatron.zigzag import positions

CONFIG = TransformerConfig(
    num_layers=1, hidden_size=32, num_attention_heads=4, num_query_groups=2, use_cpu_initialization=True
)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_compute_what_one_does(monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    """Outputs and gradients; documents of 1 to 9 tokens a part, one of them empty."""
    torch.manual_seed(0)
    edges = [0, *accumulate(2 * ranks * size for size in (1, 3, 9, 0, 4, 5))]
    query = torch.randn(edges[-1], 4, 8, requires_grad=True)
    key, value = (torch.randn(edges[-1], 2, 8, requires_grad=True) for _ in range(2))
    packed = PackedSeqParams(qkv_format="thd", cu_seqlens_q=torch.tensor(edges, dtype=torch.int32))
    expected = PackedAttention(CONFIG, 1)(query, key, value, None, packed_seq_params=packed)

    own = [torch.from_numpy(positions(np.array(edges), rank, ranks)) for rank in range(ranks)]
    found = torch.empty_like(expected)
    for rank, places in enumerate(own):
        group = SimpleNamespace(rank=lambda rank=rank: rank, size=lambda: ranks)
        monkeypatch.setattr(context.parallel_state, "get_context_parallel_group", lambda group=group: group)
        gathered = iter([torch.cat([whole[part] for part in own]) for whole in (key, value)])
        gather = partial(_answer, gathered)
        monkeypatch.setattr(context, "gather_from_sequence_parallel_region", gather)
        attention = context.ContextParallelAttention(CONFIG, 1)
        found[places] = attention(query[places], key[places], value[places], None, packed_seq_params=packed)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    weights = torch.randn_like(expected)
    of_all, of_one = (torch.autograd.grad((out * weights).sum(), [query, key, value]) for out in (found, expected))
    torch.testing.assert_close(of_all, of_one, rtol=0, atol=1e-5)


def _answer(gathered: Iterator[Tensor], part: Tensor, group: object) -> Tensor:
    return next(gathered)
