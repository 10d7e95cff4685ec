"""How much of the hardware a run uses: model FLOPs by formula, and the peak that they are compared with.

PaLM's appendix B (arXiv 2204.02311): a token costs ``6 N`` floating-point operations, forward and backward, in the
``N`` weights that multiply it, and ``12 L H D`` more for each token that attention compares it with (``L`` layers,
``H`` heads of ``D`` channels; the causal mask is not discounted). In a packed row a token is compared with its own
document alone, so documents of 30 and 10 tokens count 30² + 10² pairs, not 40². Operations done twice (recomputation)
or on padding do not count. Where only an adapter is trained, the frozen weights have no gradient: ``4 N`` operations,
and ``6`` for each weight of the adapter.
"""

from __future__ import annotations

import resource

import torch

from msm_hpc import adapter
from msm_hpc.architecture import Transformer
from msm_hpc.config import Lora

PEAK_BF16 = {
    "A100": 312e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
}
"""Dense bf16 FLOP/s by a part of the device's name, from NVIDIA's data sheets (half of the figure "with sparsity")."""


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


def peak_flops(device: str) -> float | None:
    """Peak dense bf16 FLOP/s of a device by its name (``NVIDIA H100 80GB HBM3``); None where we do not know it."""
    return next((peak for part, peak in PEAK_BF16.items() if part in device), None)


def device_name() -> str:
    """What this rank computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def peak_memory() -> int:
    """Most bytes that this rank ever held: of the GPU's memory, or resident in main memory where there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
