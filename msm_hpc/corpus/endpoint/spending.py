"""What was spent on each model, in tokens and money, and the limit that no request may exceed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """On one model, in one folder, over all runs."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    money: float = 0.0


def spent(folder: Path) -> Mapping[str, Spent]:
    """What all requests of a folder have cost, by model; also while they are running."""
    raise NotImplementedError
