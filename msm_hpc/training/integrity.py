"""That the shards and the plan are, byte for byte, what was written: a flipped bit would be trained on unnoticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from torch import distributed

from msm_hpc.base.errors import UserError
from msm_hpc.base.files import read_json
from msm_hpc.config.training import HeldOut
from tokenization.errors import BadInput
from tokenization.manifest import NAME, check_files


def check_data(folders: Sequence[Path]) -> None:
    """Hash every file once, the folders shared out over the ranks.

    Raises:
        UserError: a file is missing or is not as its manifest says; on every rank, and names all such files.
    """
    rank, world_size = distributed.get_rank(), distributed.get_world_size()
    own = [wrong for folder in folders[rank::world_size] if (wrong := _wrong(folder))]
    found: list[list[str]] = [[] for _ in range(world_size)]
    distributed.all_gather_object(found, own)
    if everything := [wrong for of_rank in found for wrong in of_rank]:
        raise UserError("; ".join(everything))


def content_digest(folders: Sequence[Path], heldout: HeldOut | None) -> str:
    """SHA-256 (hexadecimal) of what row numbers mean.

    That is, of what the manifests of ``folders`` vouch for (names, hashes and sizes of all files), and of which rows
    are ``heldout``: the others are numbered anew.
    """
    files = [read_json(folder / NAME)["files"] for folder in folders]
    held = None if heldout is None else (heldout.batches, heldout.seed)
    return hashlib.sha256(json.dumps([files, held], sort_keys=True).encode()).hexdigest()


def _wrong(folder: Path) -> str | None:
    try:
        check_files(folder)
    except BadInput as error:
        return str(error)
    return None
