"""``python -m tests.training.te_zigzag BOUNDARY...``: which tokens Transformer Engine gives each of 2 and 4 ranks."""

from __future__ import annotations

import json
import sys
from unittest.mock import patch

import torch

from tests.training import te_python


def tokens(boundaries: torch.Tensor, rank: int, ranks: int) -> list[int]:
    """The positions that ``rank`` of ``ranks`` gets."""
    from transformer_engine.pytorch.attention.dot_product_attention.context_parallel import get_batch_on_this_cp_rank

    everything = torch.arange(int(boundaries[-1]))[None]
    with (
        patch("torch.distributed.get_world_size", lambda group: ranks),
        patch("torch.distributed.get_rank", lambda group: rank),
    ):
        mine, _, _ = get_batch_on_this_cp_rank(boundaries, everything, everything, everything)
    found: list[int] = mine[0].tolist()
    return found


if __name__ == "__main__":
    te_python.install()
    edges = torch.tensor([int(boundary) for boundary in sys.argv[1:]])
    print(json.dumps([[tokens(edges, rank, ranks) for rank in range(ranks)] for ranks in (2, 4)]))
