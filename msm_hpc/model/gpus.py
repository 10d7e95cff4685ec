"""The GPUs that ``cluster.gpu`` may name: memory, its bandwidth, peak FLOP/s and compute capability."""

from __future__ import annotations

import re
from dataclasses import dataclass

from msm_hpc.config.cluster import Gpu

Capability = tuple[int, int]
MIB = 2**20


@dataclass(frozen=True)
class GpuModel:
    """A model of GPU.

    ``memory`` is in bytes, as ``nvidia-smi`` shows it. ``peak`` is dense bf16 FLOP/s by NVIDIA's data sheets, half of
    their figure "with sparsity"; ``bandwidth`` is of the memory, in bytes/s, by the same. ``capability`` is the compute
    capability (developer.nvidia.com/cuda-gpus).
    """

    memory: int
    peak: float
    bandwidth: float
    capability: Capability


GPUS: dict[Gpu, GpuModel] = {
    "a100": GpuModel(81_920 * MIB, 312e12, 2.04e12, (8, 0)),  # SXM, 80 GB
    "l40s": GpuModel(46_068 * MIB, 362e12, 0.864e12, (8, 9)),
    "h100": GpuModel(81_559 * MIB, 989e12, 3.35e12, (9, 0)),  # SXM, 80 GB
    "h200": GpuModel(143_771 * MIB, 989e12, 4.8e12, (9, 0)),
    "gh200": GpuModel(97_871 * MIB, 989e12, 4e12, (9, 0)),  # with 96 GB of HBM3
    "b200": GpuModel(183_359 * MIB, 2250e12, 8e12, (10, 0)),
    "gb200": GpuModel(189_471 * MIB, 2500e12, 8e12, (10, 0)),
}
"""By the value of ``cluster.gpu``; an unknown one is refused with the nearest when the config is composed."""

H100_PEAKS = {"pcie": 756e12, "nvl": 835e12}
"""Peaks of the H100s that are not SXM modules, by a word of the driver's name."""


def is_gpu(device: str, gpu: Gpu) -> bool:
    """Whether the driver's name of a device is that of ``gpu``."""
    return gpu in re.findall(r"\w+", device.lower())


def peak_flops(device: str) -> float | None:
    """Peak dense bf16 FLOP/s of a device by the driver's name for it (``NVIDIA A100-SXM4-80GB``); None if unknown."""
    words = set(re.findall(r"\w+", device.lower()))
    if "h100" in words and (slower := words & H100_PEAKS.keys()):
        return H100_PEAKS[slower.pop()]
    return next((gpu.peak for word, gpu in GPUS.items() if word in words), None)
