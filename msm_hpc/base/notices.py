"""What a step's result has to say to whoever reads the figures made of it: ``notices.json`` beside it.

An export writes it, an evaluation passes it on, the report shows it. Without anything to say there is no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msm_hpc.base.files import read_json, write_json

FILE = "notices.json"


def write_notices(out: Path, notices: Sequence[str]) -> None:
    """Put ``notices`` beside the result in ``out``."""
    if notices:
        write_json(out / FILE, list(dict.fromkeys(notices)))


def read_notices(*results: Path | None) -> tuple[str, ...]:
    """The notices beside the results in these folders, in their order; None has none."""
    files = [out / FILE for out in results if out]
    return tuple(notice for file in files if file.is_file() for notice in read_json(file))
