"""Memory and time of the steps that convert and evaluate models, by formula, before anything runs.

======== ===============================================================
step     in memory at once
======== ===============================================================
model    three tensors of the size of the largest (conversion/stage.py); all weights of GGUF, which transformers reads
export   the same, in float32 where an adapter is merged
eval     all weights, first on the host, then on the GPU if there is one; there also a batch of tokens
======== ===============================================================

So Qwen2.5-32B is exported in bf16 with 5.5 GiB, and evaluated with 62 GiB of host memory and 65 GiB of a GPU. None of
this was measured on a GPU.
"""

from __future__ import annotations

from msm_hpc.config.training import Lora
from msm_hpc.model.adapter import parameters
from msm_hpc.model.architecture import Transformer
from msm_hpc.planner.memory import FIXED_CPU, FIXED_GPU

AT_ONCE = 3
"""Tensors of the size of the largest that conversion holds at once."""
SPEED = 200 * 10**6
"""Assumed bytes that a node's file system reads, writes or hashes in a second; loading is most of the time."""
ALIVE = 4
"""Assumed tensors of each width, and matrices of attention scores, that one layer has at once."""


def converting(model: Transformer, size: int) -> int:
    """Host memory to read and write tensors of ``size`` bytes a weight one after another."""
    return FIXED_CPU + AT_ONCE * size * _largest(model)


def loading(model: Transformer, size: int) -> int:
    """Host memory to load all weights."""
    return FIXED_CPU + size * model.parameters


def evaluating(model: Transformer, size: int, tokens: int, on_gpu: bool, lora: Lora | None) -> int:
    """Memory to score batches of ``tokens``: the model, one layer's tensors, and the logits as if all tokens had them.

    With ``lora`` the model has an adapter, whose numbers have ``size`` bytes too.
    """
    shape = model.shape
    layer = ALIVE * size * (shape.hidden_size + shape.intermediate_size + shape.num_attention_heads * tokens)
    logits = (size + 4 + 4) * model.vocab_size
    fixed = FIXED_GPU if on_gpu else FIXED_CPU
    adapter = parameters(model, lora) if lora else 0
    return fixed + size * (model.parameters + adapter) + tokens * (layer + logits)


def _largest(model: Transformer) -> int:
    """Weights of the largest tensor of a layer or of the vocabulary."""
    shape = model.shape
    rows = max(model.padded_vocab_size, 2 * shape.intermediate_size, model.query_rows + 2 * model.key_rows)
    return rows * shape.hidden_size
