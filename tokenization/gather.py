"""The shards that N tokenise tasks made of one corpus, gathered in one folder: the gather stage.

What the tasks make, end to end, does not depend on N. So one step can stand for "this corpus, tokenised", with its
tasks as shares of the work. ``out`` holds the shard of task ``k`` as sub-folder ``k``, which is what
:func:`tokenization.shards.shard_folders` reads. Files are hard-linked, so gathering takes no space. Of a task that was
itself split into tasks, ``out`` is the shard.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.errors import UserError
from tokenization.manifest import NAME, check_sizes, read_manifest
from tokenization.merge import merge
from tokenization.tokenize import TokenizeConfig

_CANNOT_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP})
"""Another device, a file system without hard links, or too many links of one file."""


@dataclass(frozen=True, kw_only=True)
class GatherInputs:
    """The output folders of the tokenise tasks 0 to N - 1 of one corpus, in order."""

    shares: tuple[Path, ...]

    def __post_init__(self) -> None:
        assert self.shares


def run(config: TokenizeConfig, inputs: GatherInputs, out: Path) -> None:
    """Link the shard of task ``k`` to ``out/k``.

    Args:
        config: how the corpus, or the share of one task, was to be tokenised.
        inputs: the shards.
        out: an existing folder.

    Raises:
        UserError: the folders are not the shares of one corpus, each once and in order, made with one tokenizer and as
            ``config`` says, or a file of theirs is missing or has another size.
    """
    manifests = {folder: check_sizes(folder, read_manifest(folder)["files"]) for folder in inputs.shares}
    _check_shares(inputs.shares, manifests, config)
    if config.tasks > 1:
        merge(inputs.shares, config.task, config.tasks, out)
        return
    for index, (folder, manifest) in enumerate(manifests.items()):
        share = out / str(index)
        share.mkdir()
        for name in (*manifest["files"], NAME):
            _link(folder / name, share / name)


def _check_shares(folders: Sequence[Path], manifests: Mapping[Path, Mapping[str, Any]], config: TokenizeConfig) -> None:
    first = folders[0]
    options = {"cot": config.cot, "turns": config.turns, "special_text": config.special_text}
    tasks, first_task = config.tasks * len(folders), config.task * len(folders)
    expected = {"tasks": tasks, **options, **{key: manifests[first].get(key) for key in ("source", "tokenizer")}}
    for task, folder in enumerate(folders, start=first_task):
        for field, value in {"task": task, **expected}.items():
            if (found := manifests[folder].get(field)) != value:
                raise UserError(
                    f"{folder}: not task {task} of {tasks} of the corpus of {first}: its manifest says {field} "
                    f"{found!r}, not {value!r}; tokenise the corpus again"
                )
    _check_unchanged(
        [record for folder in folders for record in manifests[folder]["corpus"]], from_start=not first_task
    )


def _check_unchanged(records: Sequence[Mapping[str, Any]], from_start: bool) -> None:
    """Each task must begin to read a file where the task before it stopped, else the file changed between them."""
    path, stopped = None, 0
    for number, record in enumerate(records):
        begins_within = number == 0 and not from_start
        if record["begin"] != (stopped if record["path"] == path else 0) and not begins_within:
            raise UserError(
                f"{record['path']}: changed while it was tokenised (a task read from {record['begin']}, the one before "
                f"to {stopped}); tokenise the corpus again"
            )
        path, stopped = record["path"], record["end"]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
