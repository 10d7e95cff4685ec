"""What this rank computes on, and how much of its memory it has used."""

from __future__ import annotations

import os
import resource

import torch


def before_cuda() -> None:
    """Set what is read when CUDA starts; to be called before anything asks for a GPU.

    Kernels then run in the order of their launch, which is how Megatron hides the communication of tensor parallelism
    behind the backward pass.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")


def device_name() -> str:
    """What this rank computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def peak_memory() -> int:
    """Most bytes that this rank ever held: of the GPU's memory, or resident in main memory where there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
