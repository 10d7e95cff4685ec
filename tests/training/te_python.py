"""Transformer Engine's Python layer on a CPU: what there is in pure Python is the reference for our emulation.

Its ``transformer-engine`` wheel has no compiled code; what it calls of its CUDA extension is answered by mocks here,
and torch is made to believe that there is a GPU. That spoils a process, so only scripts in a process of their own call
this.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

FOLDER = Path(sys.prefix) / "te-reference"
"""Where ``make test`` puts the wheel: outside of every import path, because Megatron would look for the extension."""

_ABSENT = (
    "einops",
    "triton",
    "triton.language",
    "triton.language.core",
    "triton.language.extra",
    "triton.language.standard",
    "triton.runtime",
    "transformer_engine.pytorch.onnx_extensions",
)


def install() -> None:
    """Make ``transformer_engine.pytorch`` importable in this process."""
    os.environ |= {"NVTE_PROJECT_BUILDING": "1", "NVTE_FRAMEWORK": "none", "NVTE_TORCH_COMPILE": "0"}
    _pretend_a_gpu()
    extension = MagicMock(name="transformer_engine_torch")
    forward = [f"GEMM{number}_{role}" for number in (1, 2, 3) for role in ("INPUT", "WEIGHT", "OUTPUT")]
    backward = [f"GRAD_{role}{number}" for number in (1, 2, 3) for role in ("OUTPUT", "INPUT")]
    extension.FP8FwdTensors = IntEnum("FP8FwdTensors", forward, start=0)
    extension.FP8BwdTensors = IntEnum("FP8BwdTensors", backward, start=0)
    extension.bgrad_quantize = lambda gradient, quantizer: (gradient.sum(0), quantizer(gradient))
    sys.modules["transformer_engine_torch"] = extension
    sys.modules |= {name: MagicMock(name=name, __version__="3.4.0") for name in _ABSENT}
    sys.path.insert(0, str(FOLDER))
    import transformer_engine.common

    transformer_engine.common.load_framework_extension = lambda framework: None
    import transformer_engine.pytorch

    for name in _ABSENT:
        del sys.modules[name]


def _pretend_a_gpu() -> None:
    import torch
    import torch._inductor.utils  # before triton is a mock

    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: torch.device("cpu")  # type: ignore[assignment,return-value]
    hopper = SimpleNamespace(major=9, minor=0, name="", total_memory=0, multi_processor_count=1)
    torch.cuda.get_device_properties = lambda device=None: hopper
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.is_current_stream_capturing = lambda: False
    torch.cuda.nvtx = MagicMock()
    torch.version.cuda = "13.0"
    torch.Tensor.is_cuda = True  # type: ignore[assignment]
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]
