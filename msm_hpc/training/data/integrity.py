"""Checks that the plan and shards are, byte for byte, what was written; training would not notice a flipped bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import distributed

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json
from msm_hpc.config.training import HeldOut
from tokenization.manifest import NAME, check_files


def check_data(folders: Sequence[Path]) -> None:
    """Hash every file once, with the folders divided among the ranks; every rank must call this.

    Raises:
        UserError: a file is missing or differs from its manifest; raised on every rank, naming all such files.
    """
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    own = [problem for folder in folders[rank::world_size] if (problem := _problem(folder))]
    found: list[list[str]] = [[] for _ in range(world_size)]
    distributed.all_gather_object(found, own)
    if problems := [problem for of_rank in found for problem in of_rank]:
        raise UserError("; ".join(problems))


def content_digest(folders: Sequence[Path], heldout: HeldOut | None) -> str:
    """SHA-256 (hexadecimal) of the data that row numbers refer to.

    That is, of the names, hashes and sizes of all files in the manifests of ``folders``, and of which rows are
    ``heldout``, since the other rows are then renumbered.
    """
    files = [read_json(folder / NAME)["files"] for folder in folders]
    held = None if heldout is None else (heldout.batches, heldout.seed)
    return hashlib.sha256(json.dumps([files, held], sort_keys=True).encode()).hexdigest()


def _problem(folder: Path) -> str | None:
    try:
        check_files(folder)
    except UserError as error:
        return str(error)
    return None
