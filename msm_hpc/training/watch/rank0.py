"""Runs something on rank 0 for all ranks; where it fails all ranks fail, instead of waiting at the next collective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from msm_hpc.base.errors import UserError

Result = TypeVar("Result")


def on_rank0(do: Callable[[], Result]) -> Result:
    """Call ``do`` on rank 0; every rank must call this, and returns what it returned or raises what it raised.

    Raises:
        OSError: raised on rank 0, as by a full disk.
        UserError: raised on rank 0.
    """
    outcome: list[Any] = [None]
    if distributed.get_rank() == 0:
        try:
            outcome[0] = do()
        except (OSError, UserError) as error:
            outcome[0] = error
    distributed.broadcast_object_list(outcome, src=0)
    if isinstance(outcome[0], (OSError, UserError)):
        raise outcome[0]
    result: Result = outcome[0]
    return result
