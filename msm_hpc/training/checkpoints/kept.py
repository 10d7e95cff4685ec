"""The weights that the trainings of a job start from, kept in the node's memory from one to the next.

Trainings of one parent are made by one job, each in a process of its own that is forked from one which lives as long as
the job (:mod:`msm_hpc.campaign.runner`). The first reads the parent's checkpoint, and leaves this rank's part of it, as
the model has it, to those after it::

    aft 1250    hashes, reads and converts the checkpoint, and keeps its weights
    aft 5000    copies them into its model, and opens no file of weights

They are kept in two files without a name (``memfd_create``) that the forked processes inherit, so that no GPU is asked
for where they are forked, and the memory is free again when the job is gone, whatever it died of. A label says what the
weights are, and is written last: what a process that died has left is of no use to anyone. Only what was read last is
kept, and only where it takes a small part of the memory.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.base.typed_json import read_if_whole

log = logging.getLogger(__name__)
MOST = 0.1
"""Of a rank's memory. A training needs up to eight times as much besides: to save, it copies its weights and the
optimizer's state; on a CPU it has all of that there."""


@dataclass(frozen=True)
class Label:
    """What weights are: of which checkpoint, and which part of it a rank has, in which precision."""

    content: str
    part: str


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a checkpoint: what stands for its ``content``, and what to call before its files are read."""

    content: str
    check: Callable[[], None]


@dataclass(frozen=True)
class _Memory:
    label: int
    weights: int
    most: float

    @property
    def weights_path(self) -> str:
        return f"/proc/self/fd/{self.weights}"


_memory: _Memory | None = None
_known: dict[Path, Checkpoint] = {}


@contextlib.contextmanager
def weights_kept(memory: float) -> Iterator[None]:
    """Until the end of this, weights are kept from one process that is forked from this one to the next.

    ``memory`` is what this rank has, in bytes.
    """
    global _memory
    _memory = _Memory(os.memfd_create("msm-label"), os.memfd_create("msm-weights"), MOST * memory)
    try:
        yield
    finally:
        os.close(_memory.label)
        os.close(_memory.weights)
        _memory = None


def know(checkpoint: Path, content: str, check: Callable[[], None]) -> bool:
    """Say what a checkpoint holds, ahead of a training that starts from it; whether that is in memory.

    ``check`` is called on rank 0 if the files are read all the same, as where another rank has not kept its part.
    """
    label = _label()
    there = label is not None and label.content == content
    _known[checkpoint] = Checkpoint(content, check if there else lambda: None)
    return there


def known(checkpoint: Path) -> Checkpoint | None:
    """What was said of a checkpoint; None where nothing was, or nothing is kept here."""
    return _known.get(checkpoint) if _memory else None


def kept_weights(label: Label) -> str | None:
    """The file with exactly these weights, if they are kept."""
    return _memory.weights_path if _memory and _label() == label else None


def keep(label: Label, size: int, write: Callable[[str], None]) -> None:
    """Have ``write(file)`` write weights of so many bytes to where they are kept, instead of those that were before."""
    if _memory is None:
        return
    os.ftruncate(_memory.label, 0)
    os.ftruncate(_memory.weights, 0)
    if size > _memory.most:
        text = "the next training reads these weights again: a rank's %.1f GB are more than the %.1f GB kept in memory"
        log.info(text, size / 1e9, _memory.most / 1e9)
        return
    write(_memory.weights_path)
    os.pwrite(_memory.label, json.dumps(asdict(label)).encode(), 0)


def _label() -> Label | None:
    return read_if_whole(Path(f"/proc/self/fd/{_memory.label}"), Label) if _memory else None
