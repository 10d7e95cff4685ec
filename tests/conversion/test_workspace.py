from __future__ import annotations

from pathlib import Path

import torch

from msm_hpc.conversion.workspace import Workspace, memory_of


def test_tensors_share_the_memory_of_the_largest(tmp_path: Path) -> None:
    workspace = Workspace()
    large = workspace.tensor((3, 4), torch.float32)
    small = workspace.tensor((2, 5), torch.bfloat16)
    assert (large.shape, large.dtype, small.shape, small.dtype) == ((3, 4), torch.float32, (2, 5), torch.bfloat16)
    assert small.data_ptr() == large.data_ptr()
    torch.save(small.fill_(1), tmp_path / "small")
    assert torch.load(tmp_path / "small").untyped_storage().nbytes() == 20
    assert workspace.tensor((4, 4), torch.float32).nbytes == 64, "it grows"
    assert (small == 1).all(), "what was given before outlives it"


def test_memory_is_that_of_the_tensor() -> None:
    tensor = torch.zeros(2, 3, dtype=torch.bfloat16)
    memory = memory_of(tensor)
    assert memory.nbytes == 12
    memory[:] = torch.ones(6, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes()
    assert (tensor == 1).all()
