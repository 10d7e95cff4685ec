"""The GPUs that a cluster may name: how much memory they have and how fast they multiply."""

from __future__ import annotations

from dataclasses import dataclass

from msm_hpc.config import Gpu


@dataclass(frozen=True)
class GpuModel:
    """``memory`` is in bytes, as ``nvidia-smi`` shows it; ``peak`` is dense bf16 FLOP/s by NVIDIA's data sheets."""

    memory: int
    peak: float


MIB = 2**20
GPUS: dict[Gpu, GpuModel] = {
    "a100": GpuModel(81_920 * MIB, 312e12),  # SXM, 80 GB
    "l40s": GpuModel(46_068 * MIB, 362e12),
    "h100": GpuModel(81_559 * MIB, 989e12),  # SXM, 80 GB
    "h200": GpuModel(143_771 * MIB, 989e12),
    "gh200": GpuModel(97_871 * MIB, 989e12),  # with 96 GB of HBM3
    "b200": GpuModel(183_359 * MIB, 2250e12),
    "gb200": GpuModel(189_471 * MIB, 2500e12),
}
"""By the word of ``cluster.gpu``; a word that is not here is refused with the nearest when the config is composed."""
