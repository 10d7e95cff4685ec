"""What rank 0 does for all ranks: where it fails, all fail, and none waits at the next collective for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import distributed

from msm_hpc.base.errors import UserError

Result = TypeVar("Result")


def on_first_rank(do: Callable[[], Result]) -> Result:
    """Do ``do`` on rank 0; every rank must call this, and gets what it returned or raises what it raised.

    Raises:
        OSError: of rank 0, as that of a full disk.
        UserError: of rank 0.
    """
    told: list[Any] = [None]
    if distributed.get_rank() == 0:
        try:
            told[0] = do()
        except (OSError, UserError) as error:
            told[0] = error
    distributed.broadcast_object_list(told, src=0)
    if isinstance(told[0], (OSError, UserError)):
        raise told[0]
    result: Result = told[0]
    return result
