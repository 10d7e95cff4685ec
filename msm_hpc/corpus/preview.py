"""What a corpus will come to, by rule of thumb, before a language model is asked for any of it.

Tokens of what is sent are counted as a quarter of its characters. Every reply is taken to be of use, and every draft to
be revised: rejects cost more, drafts that are kept less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.counts import Counts, balanced
from msm_hpc.corpus.items import IDEAS_AT_ONCE, MOST_ASSERTIONS
from msm_hpc.corpus.prompts import FOLDER
from msm_hpc.corpus.spec import ModelSpec

CHARACTERS_PER_TOKEN = 4
ASSERTION, TYPE, IDEA, NOTES = 30, 60, 90, 150
"""Tokens of one of these."""


@dataclass(frozen=True)
class Calls:
    """So many requests for the same sort of thing; of the tokens in, ``shared`` are a prefix that a cache may have."""

    what: str
    calls: int
    tokens_in: int
    shared: int
    tokens_out: int

    def cost(self, endpoint: Endpoint) -> float:
        """In the currency of the endpoint's prices, without any discount of a cache."""
        return (self.tokens_in * endpoint.price_in + self.tokens_out * endpoint.price_out) / 1e6


def counts_of(config: OutlineConfig, spec: ModelSpec) -> Counts:
    """How many documents are planned of each section and type."""
    return balanced(config.documents, len(spec.sections), config.types)


def outline_calls(config: OutlineConfig, spec: ModelSpec) -> Iterator[Calls]:
    """What an outline asks for."""
    counts, sections = counts_of(config, spec), len(spec.sections)
    claims = MOST_ASSERTIONS * ASSERTION
    section = _tokens("".join(section.text for section in spec.sections)) // max(sections, 1)
    ideas = sum(math.ceil(count / IDEAS_AT_ONCE) for types in counts.ideas for count in types)
    yield _calls(spec, "assertions", sections, section, sections * claims)
    yield _calls(spec, "types", sections, claims, counts.cells * TYPE)
    yield _calls(spec, "ideas", ideas, claims, counts.documents * IDEA)


def write_calls(config: WriteConfig, spec: ModelSpec, documents: int) -> Iterator[Calls]:
    """What writing so many documents asks for."""
    claims = MOST_ASSERTIONS * ASSERTION
    yield _calls(spec, "document", documents, claims + TYPE + IDEA, documents * config.document_tokens)
    if config.revise:
        tokens = config.document_tokens + NOTES
        yield _calls(spec, "revise", documents, config.document_tokens + TYPE, documents * tokens)


def _calls(spec: ModelSpec, template: str, calls: int, variable: int, tokens_out: int) -> Calls:
    """``calls`` of a template; ``variable`` tokens of each come with what is put into it."""
    shared = _tokens(spec.body) + _tokens((FOLDER / "spec.j2").read_text())
    own = _tokens((FOLDER / f"{template}.j2").read_text()) + variable
    return Calls(template, calls, calls * (shared + own), calls * shared, tokens_out)


def _tokens(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN
