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


def read_notices(out: Path) -> tuple[str, ...]:
    """The notices beside the result in ``out``."""
    return tuple(read_json(out / FILE)) if (out / FILE).is_file() else ()
