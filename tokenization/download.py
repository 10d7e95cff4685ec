"""The download stage: one split of a data set by name, as a Parquet file that tokenise tasks then read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tokenization.reading.hub import SPLIT, DatasetName
from tokenization.reading.tables import dataset_errors, fetch

FILE = "data.parquet"


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """What :class:`~tokenization.reading.hub.DatasetName` names; ``revision`` is a commit."""

    name: str
    revision: str | None
    subset: str | None = None
    split: str = SPLIT


@dataclass(frozen=True, kw_only=True)
class DownloadInputs:
    """None: the hub is asked."""


def run(config: DownloadConfig, inputs: DownloadInputs, out: Path) -> None:
    """Write the rows of the split to ``out``.

    Raises:
        UserError: there is no such data set, or it cannot be reached.
    """
    named = DatasetName(config.name, config.revision, config.subset, config.split)
    with dataset_errors(f"hf:{config.name}"):
        fetch(named).to_parquet(out / FILE)
