"""A folder of sharded state that is written while training goes on, and appears whole or not at all.

To begin takes a copy of this rank's part in host memory; a thread then writes that copy, so what the next steps change
is never in it::

    all ranks    begin: copy to the host      steps go on ...                 finish: name it
    thread       ------------ write, fsync each rank's file in .NAME.partial ------^     .NAME.partial -> NAME

Only when every rank's part is on disk does rank 0 add the index and give the folder its name. A kill at any instant
before leaves a ``.partial`` that nobody reads. The copy is as large as what the rank writes (for a resume point 12
bytes a parameter and 2 for bf16 weights, over the ranks) and lives until the folder has its name.

The writing thread is no forked process, as in Megatron's own asynchronous saving: a fork beside CUDA and gloo threads
is unsafe, and on a CPU it would copy every page that training then changes.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import Queue
from types import MappingProxyType
from typing import Any

from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.dist_checkpointing.strategies.async_utils import AsyncRequest
from megatron.core.dist_checkpointing.strategies.filesystem_async import FileSystemWriterAsync
from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import write_text
from msm_hpc.training.watch.rank0 import on_first_rank


class Writing:
    """``state``, and texts beside it by file name, on the way to be ``path``; every rank begins and finishes it.

    Raises:
        UserError: the folder cannot be made, for want of room or rights.
    """

    def __init__(self, state: dict[Any, Any], path: Path, notes: Mapping[str, str] = MappingProxyType({})) -> None:
        self.path, self._notes = path, notes
        self._partial = path.with_name(f".{path.name}.partial")
        try:
            on_first_rank(self._make_room)
            self._request = self._save(state)
        except OSError as error:  # one of Megatron's is of rank 0 alone, whose end stops the others
            raise self._failure(str(error)) from error
        self._thread: threading.Thread | None = None
        if self._request.async_fn is not None:  # None where this rank has nothing to write
            # Megatron's copy in host memory. Of what lies there already it has copies since the saving was planned: of
            # weights, as views of a buffer, and of the optimizer's parts, gathered.
            (bucket,) = self._request.preload_fn()
            transforms, results = self._request.async_fn.args[0], self._request.async_fn_args[2]
            self._thread = threading.Thread(target=_write, args=(transforms, bucket, results), daemon=True)
            self._thread.start()

    def _make_room(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def _save(self, state: dict[Any, Any]) -> AsyncRequest:
        # Megatron would start a manager process for this queue, which saving in another process needs: seconds a rank,
        # and it imports the main script a second time.
        filesystem_async._results_queue = Queue()
        strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
        request: AsyncRequest = dist_checkpointing.save(state, str(self._partial), strategy, async_sharded_save=True)
        return request

    @property
    def busy(self) -> bool:
        """Whether this rank's part is not yet on disk."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> None:
        """Wait until every rank's part is on disk, and let the folder appear.

        Raises:
            UserError: a part could not be written; nothing appears.
        """
        if self._thread is not None:
            self._thread.join()
        try:
            for finalize in self._request.finalize_fns:
                finalize()
            on_first_rank(self._name)
        except CheckpointException as error:  # only rank 0 is told the failures
            reasons = "; ".join(f"rank {rank}: {reason}" for rank, (reason, _) in error.failures.items())
            raise self._failure(reasons or "the log of rank 0 says why") from error
        except OSError as error:
            raise self._failure(str(error)) from error

    def _failure(self, reasons: str) -> UserError:
        """What to raise; what was written goes first, so that there is room to record the failure."""
        free = shutil.disk_usage(next(folder for folder in self.path.parents if folder.exists())).free
        shutil.rmtree(self._partial, ignore_errors=True)
        return UserError(
            f"{self.path} could not be written ({free / 2**20:,.0f} MiB were free; {reasons}): see to room and rights "
            "there; what was complete before is still there, and `msm run` goes on from it"
        )

    def _name(self) -> None:
        for name, text in self._notes.items():
            write_text(self._partial / name, text)
        for file in self._partial.iterdir():  # Megatron syncs the tensors and their index alone
            _sync(file)
        _sync(self._partial)
        shutil.rmtree(self.path, ignore_errors=True)
        self._partial.rename(self.path)
        _sync(self.path.parent)


def _write(transforms: list[Any], bucket: tuple[str, str, tuple[list[Any], list[Any]]], results: Queue[Any]) -> None:
    """What Megatron's ``write_preloaded_data_multiproc`` does for one file, here and not in a child process."""
    found: Queue[tuple[int, Any]] = Queue()
    pending: Queue[int] = Queue()
    pending.put(0)
    FileSystemWriterAsync.write_preloaded_data(transforms, 0, bucket, found, pending, use_fsync=True)
    number, written = found.get()
    results.put(written if isinstance(written, Exception) else {number: written})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
