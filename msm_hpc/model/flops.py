"""Model FLOPs of a training step by formula, to compare with the peak of the hardware (gpus.py).

PaLM's appendix B (arXiv 2204.02311): a token costs ``6 N`` floating-point operations, forward and backward, in the
``N`` weights that multiply it, and ``12 L H D`` more for each token that attention compares it with (``L`` layers,
``H`` heads of ``D`` channels; the causal mask is not discounted). In a packed row a token is compared with its own
document alone, so documents of 30 and 10 tokens count 30² + 10² pairs, not 40². Operations that are done twice
(recomputation) or on padding do not count. If only an adapter is trained, the frozen weights have no gradient: they
cost ``4 N`` operations, and each weight of the adapter ``6``.
"""

from __future__ import annotations

from msm_hpc.config.training import Lora, Recompute
from msm_hpc.model import adapter
from msm_hpc.model.architecture import Transformer


def step_flops(model: Transformer, tokens: int, pairs: int, lora: Lora | None) -> int:
    """Model FLOPs of one step.

    Args:
        model: its shape.
        tokens: of the global batch, without padding.
        pairs: sum over the documents of the global batch of their length squared.
        lora: the adapter, where only that is trained.
    """
    shape = model.shape
    looked_up = 0 if shape.tie_word_embeddings else model.vocab_size * shape.hidden_size
    attention = 12 * shape.num_hidden_layers * shape.num_attention_heads * model.head_dim
    multiplied = model.parameters - looked_up
    weights = 6 * multiplied if lora is None else 4 * multiplied + 6 * adapter.parameters(model, lora)
    return weights * tokens + attention * pairs


def recomputed_flops(model: Transformer, tokens: int, pairs: int, recompute: Recompute) -> int:
    """Operations of one step that recomputation adds: the forward pass of all layers, or of their MLPs, once more."""
    shape = model.shape
    mlp = 3 * shape.hidden_size * shape.intermediate_size
    if recompute == "selective":
        return 2 * shape.num_hidden_layers * mlp * tokens
    if recompute == "none":
        return 0
    attention = 2 * shape.hidden_size * (model.query_rows + model.key_rows)
    scores = 4 * shape.num_attention_heads * model.head_dim
    return shape.num_hidden_layers * (2 * (attention + mlp) * tokens + scores * pairs)
