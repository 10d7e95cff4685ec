"""Patterns of reasoning, and the prompts by which judges find, name and count them in transcripts.

Four passes, each over the answers of the one before:

    open coding      one transcript   -> the reasons that are in it, in the judge's own words
    canonical        many reasons     -> patterns, each with a one-sentence definition; a person looks them over
    classification   one transcript   -> for every pattern: present, absent or uncertain
    merge            two patterns that mostly occur together -> one

``patterns()`` are the canonical ones of two families, to begin with: those that lead toward harm and those that lead
away from it. Classification alone is enough where new ones are not looked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from msm_hpc.endpoint.prompts import Answer
from msm_hpc.evals.texts import read_yaml, rendered

Family = Literal["misaligned", "aligned"]
MERGE_ABOVE = 0.75

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Pattern:
    """A kind of reasoning, with a passage that shows it and one that is near it and does not."""

    id: str
    family: Family
    name: str
    definition: str
    positive: str
    negative: str


class Reason(Answer):
    """A reason that open coding found."""

    label: str
    description: str
    quote: str
    direction: Literal["toward_harm", "away_from_harm", "neutral"]
    outcome: Literal["followed", "set_aside", "open"]


class Reasons(Answer):
    """The answer to :func:`open_coding_prompt`."""

    reasons: tuple[Reason, ...]


class Grouped(Answer):
    """A pattern into which reasons were grouped, by their numbers."""

    id: str
    family: Family
    name: str
    definition: str
    positive: str
    negative: str
    reasons: tuple[Annotated[int, Field(ge=1)], ...]


class Canonical(Answer):
    """The answer to :func:`canonical_prompt`."""

    patterns: tuple[Grouped, ...]
    unassigned: tuple[Annotated[int, Field(ge=1)], ...]


class Found(Answer):
    """Whether a pattern is in a transcript."""

    id: str
    quote: str
    verdict: Literal["present", "absent", "uncertain"]


class Classified(Answer):
    """The answer to :func:`classify_prompt`."""

    patterns: tuple[Found, ...]


class Merged(Answer):
    """The answer to :func:`merge_prompt`; with an objection, the two are to stay apart."""

    id: str
    name: str
    definition: str
    positive: str
    negative: str
    objection: str


@dataclass(frozen=True)
class Overlap:
    """Two patterns and the share of the rarer one's transcripts in which both occur."""

    first: str
    second: str
    share: float


@cache
def patterns() -> tuple[Pattern, ...]:
    """The canonical patterns of both families."""
    return read_yaml(_FOLDER / "patterns.yaml", tuple[Pattern, ...])


def open_coding_prompt(transcript: str) -> str:
    """What asks for the reasons in a transcript."""
    return rendered(_FOLDER / "open_coding.jinja", transcript=transcript)


def canonical_prompt(reasons: Sequence[Reason], known: Sequence[Pattern] = ()) -> str:
    """What asks to group reasons, numbered from 1, into the ``known`` patterns and new ones."""
    return rendered(_FOLDER / "canonical.jinja", reasons=reasons, known=known)


def classify_prompt(transcript: str, among: Sequence[Pattern]) -> str:
    """What asks which of the patterns ``among`` occur in a transcript."""
    return rendered(_FOLDER / "classify.jinja", transcript=transcript, patterns=among)


def merge_prompt(first: Pattern, second: Pattern, share: float, quotes: Sequence[str]) -> str:
    """What asks for one pattern in place of two, of which ``quotes`` are passages that were counted for both."""
    return rendered(_FOLDER / "merge.jinja", first=first, second=second, percent=round(100 * share), quotes=quotes)


def overlaps(transcripts: Mapping[str, Collection[str]], above: float = MERGE_ABOVE) -> list[Overlap]:
    """The pairs of patterns to be merged, most overlapping first; ``transcripts`` are those in which each is present.

    Overlap is the number of transcripts with both, as a share of those with the rarer one. Patterns that never occur
    overlap with nothing. Pass patterns of one family: that a thought and its opposite occur together is no reason to
    merge them.
    """
    found = []
    for first, second in combinations(sorted(transcripts), 2):
        in_first, in_second = set(transcripts[first]), set(transcripts[second])
        rarer = min(len(in_first), len(in_second))
        if rarer and (share := len(in_first & in_second) / rarer) > above:
            found.append(Overlap(first, second, share))
    return sorted(found, key=lambda overlap: -overlap.share)
