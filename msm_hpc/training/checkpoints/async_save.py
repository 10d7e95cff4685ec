"""A folder of sharded state that is written while training continues, and appears whole or not at all.

Beginning takes a copy of this rank's part in host memory; a thread then writes that copy, so what the next steps change
is never in it::

    all ranks    begin: copy to the host      steps continue ...              finish: name it
    thread       --------- write, fsync, hash each rank's file in .NAME.partial ---^     .NAME.partial -> NAME

Only when every rank's part is on disk does rank 0 add the index and the hashes, and give the folder its name. A kill at
any instant before leaves a ``.partial`` folder that nobody reads. The copy is as large as what the rank writes (in a
resume checkpoint 12 bytes a parameter and 2 for bf16 weights, divided among the ranks) and lives until the folder is
named.

It is a thread, not a forked process as in Megatron's own asynchronous saving: a fork beside CUDA and gloo threads is
unsafe, and on a CPU it would copy every page that training then changes.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import distributed
from torch.distributed.checkpoint.api import CheckpointException

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import sync, write_text
from msm_hpc.training.checkpoints.hashes import FileHash, hash_of, write_hashes
from msm_hpc.training.megatron.private import plan_save
from msm_hpc.training.watch.rank0 import on_rank0


class AsyncSave:
    """Writes ``state``, and texts beside it by file name, to the folder ``path``; every rank makes and finishes one.

    Raises:
        UserError: the folder cannot be made, for want of space or permissions.
    """

    def __init__(self, state: dict[Any, Any], path: Path, notes: Mapping[str, str] = MappingProxyType({})) -> None:
        self.path, self._notes = path, notes
        self._partial = path.with_name(f".{path.name}.partial")
        self._hashes: dict[str, FileHash] = {}
        try:
            on_rank0(self._make_folder)
            plan = plan_save(state, self._partial, self._hash)
        except OSError as error:  # an error of Megatron's is raised on rank 0 alone, whose end stops the others
            raise self._failure(str(error)) from error
        self._finalize = plan.finalize
        self._thread = threading.Thread(target=plan.write, daemon=True) if plan.write else None
        if self._thread is not None:
            self._thread.start()

    def _make_folder(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)

    def _hash(self, file: Path) -> None:
        self._hashes[file.name] = hash_of(file)

    @property
    def is_writing(self) -> bool:
        """Whether this rank's part is not yet on disk."""
        return self._thread is not None and self._thread.is_alive()

    def finish(self) -> None:
        """Wait until every rank's part is on disk, then give the folder its name.

        Raises:
            UserError: a part could not be written; no folder appears.
        """
        if self._thread is not None:
            self._thread.join()
        try:
            for finalize in self._finalize:
                finalize()
            hashes: list[dict[str, FileHash]] = [{} for _ in range(distributed.get_world_size())]
            distributed.all_gather_object(hashes, self._hashes)
            on_rank0(lambda: self._publish(hashes))
        except CheckpointException as error:  # only rank 0 has the failures
            reasons = "; ".join(f"rank {rank}: {reason}" for rank, (reason, _) in error.failures.items())
            raise self._failure(reasons or "the log of rank 0 says why") from error
        except OSError as error:
            raise self._failure(str(error)) from error

    def _failure(self, reasons: str) -> UserError:
        """The error to raise; what was written is deleted first, to make room for recording the failure."""
        free = shutil.disk_usage(next(folder for folder in self.path.parents if folder.exists())).free
        shutil.rmtree(self._partial, ignore_errors=True)
        return UserError(
            f"{self.path} could not be written ({free / 2**20:,.0f} MiB were free; {reasons}): check the space and "
            "permissions there; the complete checkpoints before it are still there, and `msm run` resumes from them"
        )

    def _publish(self, hashes: Iterable[Mapping[str, FileHash]]) -> None:
        for name, text in self._notes.items():
            write_text(self._partial / name, text)
        for file in self._partial.iterdir():  # Megatron syncs only the tensors and their index
            sync(file)
        write_hashes(self._partial, {name: known for each in hashes for name, known in each.items()})
        sync(self._partial)
        shutil.rmtree(self.path, ignore_errors=True)
        self._partial.rename(self.path)
        sync(self.path.parent)
