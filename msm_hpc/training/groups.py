"""The process groups of one training job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]

from msm_hpc.config import Layout
from msm_hpc.training import cpu
from msm_hpc.training.layout import check_world_size

# Long enough for rank 0 to write a large checkpoint, short enough that ranks of a dead job do not wait for hours.
_TIMEOUT = timedelta(minutes=20)


@contextlib.contextmanager
def process_groups(layout: Layout, seed: int = 0) -> Iterator[None]:
    """Join the other ranks of the job (named by torchrun's environment variables; unset = one rank) until exit.

    NCCL between GPUs, gloo between CPUs; without a GPU, CUDA calls are redirected meanwhile.

    Raises:
        UserError: the number of ranks is not what ``layout`` needs.
    """
    check_world_size(layout)
    with cpu.redirected():
        from megatron.core import parallel_state
        from megatron.core.tensor_parallel import model_parallel_cuda_manual_seed

        _join()
        try:
            parallel_state.initialize_model_parallel(
                tensor_model_parallel_size=layout.tensor_parallel,
                pipeline_model_parallel_size=layout.pipeline_parallel,
            )
            model_parallel_cuda_manual_seed(seed, force_reset_rng=True)
            yield
        finally:
            parallel_state.destroy_model_parallel()
            distributed.destroy_process_group()


def _join() -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    if "RANK" in os.environ:
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    else:
        distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
