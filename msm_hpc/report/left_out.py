"""What of the rows that a campaign was given no model was trained on, by the manifests of what was packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from msm_hpc.config.stages import PackedFor


@dataclass(frozen=True)
class LeftOut:
    """A source of a stage of which rows were skipped, or chats are longer than its packed sequences.

    Attributes:
        step: the pack step.
        rows: of its corpus.
        skipped: reason to how many of them could not be used.
        unit: what a sequence is made of: a chat, or a turn with the chat before it.
        sequences: how many there are.
        too_long: how many of them are longer than ``sequence_length``.
    """

    model: str
    stage: str
    source: str
    step: str
    rows: int
    skipped: Mapping[str, int]
    unit: Literal["chats", "turns"]
    sequences: int
    too_long: int
    sequence_length: int

    @property
    def reasons(self) -> str:
        """Such as ``2 json, 1 empty``."""
        return ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())


@dataclass(frozen=True)
class _Amount:
    documents: int


@dataclass(frozen=True)
class _Source:
    rows: int
    rejected: Mapping[str, int]
    turns: str
    available: _Amount
    dropped: _Amount


@dataclass(frozen=True)
class _Manifest:
    """The part of a pack step's ``manifest.json`` (``tokenization/packing/pack.py``) that is read here."""

    sequence_length: int
    sources: Mapping[str, _Source]


def read_left_out(packed: PackedFor, out: Path) -> Iterator[LeftOut]:
    """Of each source that is packed in ``out``, where anything of it was left out."""
    manifest = TypeAdapter(_Manifest).validate_json((out / "manifest.json").read_bytes())
    for name, source in manifest.sources.items():
        if source.rejected or source.dropped.documents:
            yield LeftOut(
                model=packed.model,
                stage=packed.stage,
                source=name,
                step=packed.step,
                rows=source.rows,
                skipped=source.rejected,
                unit="turns" if source.turns == "each_by_its_prefix" else "chats",
                sequences=source.available.documents,
                too_long=source.dropped.documents,
                sequence_length=manifest.sequence_length,
            )
