"""Which shares below a root were split over free workers, and into how many: ``ROOT/splits.json``.

All campaigns below the root read it, so that they mean the same steps. Only who holds the
:func:`~msm_hpc.store.lock.submission_lock` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from msm_hpc.base.files import atomic
from msm_hpc.base.typed_json import read_if_whole
from msm_hpc.store.shared import locked_out, share


def read_splits(root: Path) -> Mapping[str, int]:
    """By the id of each share that was split the number of its parts.

    Raises:
        UserError: the file is another user's, who has not shared it.
    """
    file = root / "splits.json"
    try:
        return read_if_whole(file, dict[str, int]) or {}
    except PermissionError as error:
        raise locked_out(file) from error


def write_splits(root: Path, splits: Mapping[str, int]) -> None:
    """Write them, in a file that all who share the root can replace."""
    with atomic(root / "splits.json") as file:
        file.write(json.dumps(splits, indent=1).encode())
        share(Path(file.name), root)
