"""What is to be written: the files of an outline, for those who read it and ask nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from pydantic import TypeAdapter

from msm_hpc.base.files import read_json

ITEMS, OUTLINE, REJECTS = "items.jsonl", "outline.json", "_rejects.jsonl"
MOST_ASSERTIONS = 12
IDEAS_AT_ONCE = 20
"""The most of these that one request asks for."""


@dataclass(frozen=True)
class Item:
    """One document that is to be written; ``id`` is unique in its outline."""

    id: str
    section: str
    type: str
    description: str
    title: str
    perspective: str
    idea: str


@dataclass(frozen=True)
class SectionOutline:
    """What a section claims, and its types of document by name; ``lost`` is why there are none."""

    section: str
    heading: str
    assertions: tuple[str, ...]
    types: Mapping[str, str]
    lost: str = ""


_ITEM, _OUTLINES = TypeAdapter(Item), TypeAdapter(tuple[SectionOutline, ...])


def read_items(folder: Path) -> list[Item]:
    """The items of an outline, in the order in which they are written."""
    with (folder / ITEMS).open("rb") as lines:
        return [_ITEM.validate_json(line) for line in lines]


def read_outline(folder: Path) -> dict[str, SectionOutline]:
    """What the sections of an outline claim, by their ids."""
    return {each.section: each for each in _OUTLINES.validate_python(read_json(folder / OUTLINE))}


def in_turn(cells: Sequence[Sequence[Item]], seed: int) -> Iterator[Item]:
    """Items so that their first n, for every n, are balanced over the cells: one of each cell, then the next."""
    order = random.Random(f"outline/{seed}").sample(range(len(cells)), len(cells))
    for one_of_each in zip_longest(*(cells[index] for index in order)):
        yield from (item for item in one_of_each if item is not None)
