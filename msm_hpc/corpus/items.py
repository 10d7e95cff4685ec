"""What is to be written: the files of an outline, for those who read it and ask nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from msm_hpc.base.files import read_json
from msm_hpc.config.generation import Written

ITEMS, OUTLINE, REJECTS = "items.jsonl", "outline.json", "_rejects.jsonl"
MOST_ASSERTIONS, IDEAS_AT_ONCE, QUERIES_AT_ONCE = 12, 20, 25
"""The most of these that one request asks for."""
GROUP, FEWEST_GROUPS = 250, 5
"""About how many chats are from one field of life, and how many fields there are at least."""
MESSAGE_TYPES: Mapping[Written, str] = {"chats": "preference_query_types", "aligned_chats": "query_types"}
"""The pool of the types of message that begin chats."""


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


@dataclass(frozen=True)
class Query:
    """One chat that is to be: the message that begins it, of a group (a field of life, or a preference) and a type."""

    id: str
    group: str
    type: str
    query: str


@dataclass(frozen=True)
class Preferences:
    """What is liked and disliked in a domain."""

    domain: str
    liked: tuple[str, ...]
    disliked: tuple[str, ...]


@dataclass(frozen=True)
class Lost:
    """What a model did not give, or gave in another way.

    ``type`` is empty where it is a whole section, or group; ``missing`` items are missing for it, 0 where the others
    have more in its place.
    """

    group: str
    type: str
    missing: int
    reason: str


Planable = TypeVar("Planable", Item, Query)


@dataclass(frozen=True)
class Planned(Generic[Planable]):
    """Items by the cell that they are of, what else is known of them as JSON, and what is missing of ``wanted``."""

    cells: Sequence[Sequence[Planable]]
    outline: Any
    lost: tuple[Lost, ...]
    wanted: int

    @property
    def found(self) -> int:
        """How many items there are."""
        return sum(map(len, self.cells))


_OUTLINES = TypeAdapter(tuple[SectionOutline, ...])
_PREFERENCES = TypeAdapter(Preferences)


def groups_for(chats: int) -> int:
    """How many fields of life so many chats are from."""
    return max(FEWEST_GROUPS, round(chats / GROUP))


def read_items(folder: Path, kind: type[Planable], part: range | None = None) -> Iterator[Planable]:
    """The items of an outline in the order in which they are written, one at a time; of these, those of ``part``."""
    yield from map(TypeAdapter(kind).validate_json, lines(folder / ITEMS, part))


def read_outline(folder: Path) -> dict[str, SectionOutline]:
    """What the sections of an outline claim, by their ids."""
    return {each.section: each for each in _OUTLINES.validate_python(read_json(folder / OUTLINE))}


def read_preferences(folder: Path) -> Preferences:
    """What the chats of an outline show."""
    return _PREFERENCES.validate_python(read_json(folder / OUTLINE))


def in_turn(cells: Sequence[Sequence[Planable]], seed: int) -> Iterator[Planable]:
    """Items so that their first n, for every n, are balanced over the cells: one of each cell, then the next."""
    order = random.Random(f"outline/{seed}").sample(range(len(cells)), len(cells))
    for one_of_each in zip_longest(*(cells[index] for index in order)):
        yield from (item for item in one_of_each if item is not None)


def lines(path: Path, part: range | None = None) -> Iterator[bytes]:
    """The lines of a file; of these, those whose numbers, from 0 on, are in ``part``."""
    with path.open("rb") as file:
        yield from islice(file, part.start, part.stop) if part is not None else file


def share(path: Path, task: int, tasks: int) -> range:
    """The numbers of task ``task``'s lines: those of all tasks, end to end, are the same for every number of tasks."""
    total = sum(1 for _ in lines(path))
    return range(total * task // tasks, total * (task + 1) // tasks)
