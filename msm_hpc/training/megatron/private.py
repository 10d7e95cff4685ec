"""All that we use of megatron-core and that its releases do not promise to keep.

Private names, module variables that we replace, and values known by their position in a tuple: each is used here alone,
by a function with a name of ours. ``tests/training/megatron/test_private.py`` checks each against the installed
megatron-core, and names the one that a release has changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from queue import Queue
from typing import Any

import torch
from megatron.core import dist_checkpointing, optimizer
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies import torch as torch_dist
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from megatron.core.distributed import param_and_grad_buffer
from megatron.core.extensions import transformer_engine
from megatron.core.models.common.embeddings import rope_utils
from megatron.core.optimizer import MegatronOptimizer, clip_grads, distrib_optimizer
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    cross_entropy,
    gather_from_sequence_parallel_region,
    layers,
)
from megatron.core.tensor_parallel import random as megatron_random
from megatron.core.transformer import transformer_block
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

from msm_hpc.base.checkpoint_index import read_index

INDEX_FILES = (".metadata", "metadata.json")
"""The files without which a folder is no ``torch_dist`` checkpoint."""

BUFFER_COLLECTIVES = (param_and_grad_buffer, ("dist_all_gather_func", "dist_reduce_scatter_func"))
"""Module and names of the collectives ``(output, input, group)`` on the buffers of weights and of gradients."""

SET_RANDOM_STATE = (megatron_random, "_set_cuda_rng_state")
"""Module and name of the function that sets the state of the GPU's random generator."""

STATE_CHANGED = "CPU RNG state changed within GPU RNG context"
"""What that module's logger warns of where the generator is the CPU's."""

RESHARDABLE: dict[str, Any] = {"distrib_optim_sharding_type": "fully_reshardable", "chained_optim_avoid_prefix": True}
"""Has the optimizer's state saved as whole tensors, which a run at any layout can load."""


# -- checkpoints -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlannedSave:
    """A checkpoint whose parts are planned and copied to host memory, but not yet written.

    ``write`` writes this rank's part, in any thread; None where this rank has none. ``finalize`` are to be called in
    order, on every rank, when all have written: collectives, and on rank 0 the index.
    """

    write: Callable[[], None] | None
    finalize: tuple[Callable[[], None], ...]


def plan_save(state: dict[Any, Any], folder: Path, then: Callable[[Path], None]) -> PlannedSave:
    """Plan to save the sharded ``state`` in ``folder``; every rank must call this.

    ``then`` is called with the file of this rank once that is written, in the thread that wrote it.

    Megatron's own asynchronous saving forks a process that writes, and starts a manager process for its results: that
    takes seconds a rank, and imports the main script a second time. So the queue of results is ours, in this process.

    Raises:
        OSError: rank 0 cannot write what is not a tensor.
    """
    filesystem_async._results_queue = Queue()
    strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
    request = dist_checkpointing.save(state, str(folder), strategy, async_sharded_save=True)
    finalize = tuple(request.finalize_fns)
    if request.async_fn is None:
        return PlannedSave(None, finalize)
    # Megatron's copy in host memory. Tensors that were there already were copied when the save was planned: weights,
    # because they are views of a buffer, and the optimizer's parts, because they are gathered.
    (bucket,) = request.preload_fn()  # one, of one file, for one thread
    transforms, _use_msc = request.async_fn.args
    _rank, _uncopied_buckets, results = request.async_fn_args
    return PlannedSave(partial(write_bucket, transforms, bucket, results, then), finalize)


def write_bucket(
    transforms: list[Any],
    bucket: tuple[str, str, tuple[list[Any], list[Any]]],
    results: Any,
    then: Callable[[Path], None],
) -> None:
    """Write one file; what Megatron's ``write_preloaded_data_multiproc`` does in a child process."""
    found: Queue[tuple[int, Any]] = Queue()
    pending: Queue[int] = Queue()
    pending.put(0)
    FileSystemWriterAsync.write_preloaded_data(transforms, 0, bucket, found, pending, use_fsync=True)
    number, written = found.get()
    try:
        if not isinstance(written, Exception):
            then(Path(bucket[0]))
    except OSError as error:
        written = error
    results.put(written if isinstance(written, Exception) else {number: written})


class _Reader(FileSystemReader):
    """Reads the index once, and calls nothing that it names but what an index is made of."""

    _index: Metadata | None = None

    def read_metadata(self) -> Metadata:
        if self._index is None:
            self._index = read_index(Path(self.path))
            self._index.storage_meta = self._index.storage_meta or StorageMeta()
            self._index.storage_meta.load_id = self.load_id
        return self._index


class _Planner(torch_dist.MCoreLoadPlanner):  # type: ignore[misc]
    """Refuses what is no tensor if anything but tensors and their like is named in it, which torch's own would call."""

    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        torch.load(value, weights_only=True)
        value.seek(0)
        super().load_bytes(read_item, value)


def load(state: dict[Any, Any], folder: Path) -> dict[Any, Any]:
    """The sharded ``state`` as it is in the checkpoint at ``folder``; every rank must call this.

    Nothing that somebody may have put into a file is called (:mod:`msm_hpc.base.checkpoint_index`): ``.metadata``, what
    is no tensor, and ``common.pt``, for which that is torch's default. Megatron takes neither a reader nor a planner.

    Raises:
        CheckpointException: it cannot be read.
    """
    torch_dist._get_filesystem_reader = lambda folder, cache_metadata=False: _Reader(folder)
    torch_dist.MCoreLoadPlanner = _Planner
    loaded: dict[Any, Any] = dist_checkpointing.load(state, str(folder))
    return loaded


# -- optimizer ---------------------------------------------------------------------------------------


def use_adam(adam: type[torch.optim.Optimizer]) -> None:
    """Have Megatron's optimizers use ``adam`` as if it were Apex's, if they have fallen back to torch's AdamW."""
    if optimizer.USING_PYTORCH_OPTIMIZER:
        optimizer.Adam = distrib_optimizer.Adam = adam
        optimizer.USING_PYTORCH_OPTIMIZER = False
        distrib_optimizer.HAVE_APEX_OR_TE = distrib_optimizer.USING_APEX_OPTIMIZER = True


def update(trained: MegatronOptimizer) -> float:
    """Update the weights; returns the norm of the gradient before clipping."""
    _succeeded, norm, _zeros = trained.step()
    return float(norm)


# -- recomputation -----------------------------------------------------------------------------------

TE_CHECKPOINT = ((transformer_block, "te_checkpoint"), (transformer_engine, "te_checkpoint"))
"""Modules and names of the function by which layers in FP8 are computed again."""


def checkpoint(
    function: Callable[..., Any], distribute: bool, tracker: Any, group: Any, *inputs: Any, **kw: Any
) -> Any:
    """In the place of that, without Transformer Engine: Megatron's own for all other precisions."""
    return megatron_random.checkpoint(partial(function, **kw), distribute, *inputs)


# -- layers ------------------------------------------------------------------------------------------

ROTATE_PACKED = (rope_utils, "_apply_rotary_pos_emb_thd")
"""Module and name of the function that rotates the queries or the keys of packed rows."""

LINEAR = (layers, "linear_with_grad_accumulation_and_async_allreduce")
"""Module and name of the function that parallel linear layers compute by."""

LARGEST_LOGITS = (cross_entropy.VocabParallelCrossEntropy, "calculate_logits_max")
"""Class and name of the static method that gives the logits in float32 and the largest of each token."""

NORM, SCALE = (clip_grads, "l2_norm_impl"), (clip_grads, "multi_tensor_scale_impl")
"""Module and names of the functions that clip gradients."""

LOCAL_PART = (clip_grads, "to_local_if_dtensor")
"""Module and name of the function that gives the part of a gradient that is here."""

RESET = (import_module("megatron.core.distributed.finalize_model_grads"), "reset_model_temporary_tensors")
"""Module and name of the function that, after each step, walks through all modules for what routers of experts keep."""

rotate_packed, linear = rope_utils._apply_rotary_pos_emb_thd, layers.linear_with_grad_accumulation_and_async_allreduce
"""Megatron's own, whatever is in their place."""


def change_output(linear: torch.nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Have ``change(input, output)`` be the output of a parallel linear layer, which returns (output, bias)."""

    def hook(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor | None]) -> Any:
        return change(inputs[0], output[0]), output[1]

    linear.register_forward_hook(hook)


class LinearProduct(ABC):
    """A base class, listed before one of Megatron's parallel linear layers, that replaces its matrix product."""

    @abstractmethod
    def product(self, input_: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``input_ @ weight.T + bias``; ``input_`` has the tokens of all ranks that share them."""

    def _forward_impl(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        allreduce_dgrad: bool,
        sequence_parallel: bool,
        tp_group: Any,
        **unused: Any,
    ) -> Tensor:
        """Called by Megatron's ``forward``, which leaves to it what tensor parallelism does to the input."""
        if sequence_parallel:
            input = gather_from_sequence_parallel_region(input, group=tp_group)
        elif allreduce_dgrad:
            input = copy_to_tensor_model_parallel_region(input, group=tp_group)
        return self.product(input, weight, bias)
