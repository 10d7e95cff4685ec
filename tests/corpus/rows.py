"""Reading what the generator wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file."""
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())
