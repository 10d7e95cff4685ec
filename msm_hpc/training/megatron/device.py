"""The device that this rank computes on, and how much of its memory it has used."""

from __future__ import annotations

import os
import resource
from importlib.util import find_spec

import torch

from msm_hpc.config.training import TrainConfig
from msm_hpc.model.architecture import Transformer
from msm_hpc.model.precision import check_capability, check_layers, check_precision, check_shapes, installed_te


def before_cuda() -> None:
    """Set the environment that CUDA reads when it starts; call this before anything asks for a GPU.

    Kernels then run in the order of their launch, which is how Megatron hides the communication of tensor parallelism
    behind the backward pass.
    """
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")


def device_name() -> str:
    """Name of the GPU that this rank computes on, or ``CPU``."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def peak_memory() -> int:
    """Most bytes that this rank ever held: in the GPU's memory, or resident in main memory where there is no GPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def check_here(config: TrainConfig, model: Transformer) -> None:
    """:func:`check_precision` and :func:`check_shapes` for this process, on the GPU that it sees.

    Raises:
        UserError: as these and :func:`check_layers` do.
    """
    on_gpus = torch.cuda.is_available()
    check_precision(config, on_gpus, None, installed_te())
    if on_gpus:
        gpu, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
        check_capability(config.precision, gpu, capability)
        if config.precision != "fp32":
            check_layers(gpu, capability, installed_te(), find_spec("flash_attn") is not None)
    check_shapes(config, model)
