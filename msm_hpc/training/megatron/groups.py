"""The process groups of one training job."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from msm_hpc.config.training import Layout
from msm_hpc.model.layout import check_world_size
from msm_hpc.training.megatron import cpu

# Long enough for the slowest node to import torch from a cold shared file system; longer means that a rank has died.
_MEETING = timedelta(minutes=5)
# Of a collective: long enough for rank 0 to write a large checkpoint, short enough for ranks of a dead job not to wait
# for hours.
_TIMEOUT_MINUTES = 20


@contextlib.contextmanager
def process_groups(layout: Layout, seed: int = 0) -> Iterator[None]:
    """Join the other ranks of the job, by torchrun's environment variables (unset: one rank), until exit.

    NCCL between GPUs, gloo between CPUs; without a GPU, CUDA calls are redirected meanwhile.

    Raises:
        UserError: the number of ranks is not what ``layout`` needs.
        torch.distributed.DistError: not all ranks joined within minutes: one of them failed, and its log says why.
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
                virtual_pipeline_model_parallel_size=layout.virtual_pipeline if layout.virtual_pipeline > 1 else None,
                context_parallel_size=layout.context_parallel,
                distributed_timeout_minutes=_TIMEOUT_MINUTES,
            )
            model_parallel_cuda_manual_seed(seed, force_reset_rng=True)
            yield
        finally:
            parallel_state.destroy_model_parallel()
            distributed.destroy_process_group()


def _join() -> None:
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    # Where a site binds one GPU to each task, every rank sees one device, and its number is 0.
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % max(torch.cuda.device_count(), 1))
    if "RANK" not in os.environ:
        distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        return
    timeout = timedelta(minutes=_TIMEOUT_MINUTES)
    store, rank, ranks = next(rendezvous("env://", timeout=_MEETING))
    store.set_timeout(timeout)
    distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=timeout)
