"""Memory that is used for one tensor after another.

Copying into memory that the process has just been given costs two to three times as much as the copying alone: the
kernel maps and zeroes every page at its first touch. (``malloc`` keeps small blocks for later, but returns those above
32 MiB, and most weights of a large model are above.) So tensors that are processed one by one share the same pages::

    workspace = Workspace()
    first = workspace.tensor((4096, 14336), torch.bfloat16)
    second = workspace.tensor((4096, 4096), torch.bfloat16)  # the first bytes of ``first``, which is overwritten
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Workspace:
    """A block of memory as large as the largest tensor that was asked for."""

    def __init__(self) -> None:
        """Empty."""
        self._memory = torch.empty(0, dtype=torch.uint8)

    def tensor(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """A contiguous, uninitialised tensor, valid until the next is asked for.

        Its storage ends where the tensor does, because ``torch.save`` writes whole storages.
        """
        count = math.prod(shape)
        if self._memory.nbytes < count * dtype.itemsize:
            self._memory = torch.empty(count * dtype.itemsize, dtype=torch.uint8)
        return torch.frombuffer(self._memory.numpy().data, dtype=dtype, count=count).view(shape)


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU ``tensor``, to read into or to write from."""
    return tensor.view(-1).view(torch.uint8).numpy().data  # view() refuses what it would have to copy
