"""Files of YAML, read by libyaml where it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from msm_hpc.base.errors import UserError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(file: Path) -> Any:
    """What is in a file: mappings, lists, numbers and texts.

    Raises:
        UserError: it is no YAML, or not UTF-8.
        OSError: it cannot be read.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no YAML in UTF-8 ({' '.join(str(error).split())}); correct it") from error
