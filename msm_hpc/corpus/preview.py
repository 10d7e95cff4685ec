"""What a corpus will come to, by rule of thumb, before a language model is asked for any of it.

Tokens of what is sent are counted as a quarter of its characters. Every reply is taken to be of use, and every draft to
be revised: rejects cost more, drafts that are kept less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msm_hpc.base.text import CHARACTERS_PER_TOKEN
from msm_hpc.config.endpoint import Endpoint
from msm_hpc.config.generation import OutlineConfig, WriteConfig
from msm_hpc.corpus.counts import balanced, shared
from msm_hpc.corpus.items import IDEAS_AT_ONCE, MESSAGE_TYPES, MOST_ASSERTIONS, QUERIES_AT_ONCE, groups_for
from msm_hpc.corpus.prompts import FOLDER, pool
from msm_hpc.corpus.spec import ModelSpec

ASSERTION, TYPE, IDEA, NOTES, QUERY, ANSWER, BARE, VERDICT = 30, 60, 90, 150, 60, 800, 20, 60
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


def counts_of(config: OutlineConfig, spec: ModelSpec) -> Mapping[str, tuple[int, ...]]:
    """How many rows are planned: of each section by types of document, or of each type of message."""
    if config.product == "documents":
        ideas = balanced(config.items, len(spec.sections), config.types).ideas
        return {section.id: types for section, types in zip(spec.sections, ideas, strict=True)}
    kinds = [line.partition(":")[0] for line in pool(MESSAGE_TYPES[config.product]).splitlines()]
    return {kind: (count,) for kind, count in zip(kinds, shared(config.items, len(kinds)), strict=True)}


def outline_calls(config: OutlineConfig, spec: ModelSpec) -> Iterator[Calls]:
    """What an outline asks for."""
    if config.product == "documents":
        yield from _document_outline(config, spec)
    elif config.product == "aligned_chats":
        groups = groups_for(config.items)
        yield _calls(spec, "domains", 1, 0, groups * TYPE)
        cells = groups * len(counts_of(config, spec))
        queries = cells * math.ceil(config.items / cells / QUERIES_AT_ONCE)
        yield _calls(spec, "queries", queries, TYPE, config.items * QUERY)
    else:
        yield _calls(spec, "preferences", 1, 0, TYPE)
        yield _calls(None, "preference_queries", math.ceil(config.items / QUERIES_AT_ONCE), TYPE, config.items * QUERY)


def _document_outline(config: OutlineConfig, spec: ModelSpec) -> Iterator[Calls]:
    counts = counts_of(config, spec)
    sections, cells = sum(map(bool, counts.values())), sum(map(len, counts.values()))
    claims = MOST_ASSERTIONS * ASSERTION
    text = _tokens("".join(section.text for section in spec.sections)) // max(len(counts), 1)
    ideas = sum(math.ceil(count / IDEAS_AT_ONCE) for types in counts.values() for count in types)
    yield _calls(spec, "assertions", sections, text, sections * claims)
    yield _calls(spec, "types", sections, claims, cells * TYPE)
    yield _calls(spec, "ideas", ideas, claims, config.items * IDEA)


def write_calls(config: WriteConfig, spec: ModelSpec, rows: int) -> Iterator[Calls]:
    """What writing so many rows asks for."""
    claims = MOST_ASSERTIONS * ASSERTION
    if config.product == "documents":
        yield _calls(spec, "document", rows, claims + TYPE + IDEA, rows * config.document_tokens)
    elif config.product == "aligned_chats":
        yield _calls(spec, "respond", rows, QUERY, rows * ANSWER)
        yield _calls(spec, "judge", rows, QUERY + ANSWER, rows * VERDICT)
    else:
        yield _calls(None, "preference_respond", rows, QUERY + TYPE, rows * BARE)
        yield _calls(None, "preference_judge", rows, QUERY + BARE + TYPE, rows * VERDICT)
    if config.revise:
        tokens = config.document_tokens + NOTES
        yield _calls(spec, "revise", rows, config.document_tokens + TYPE, rows * tokens)


def rework_calls(config: WriteConfig, spec: ModelSpec, rows: int, tokens: int) -> Iterator[Calls]:
    """What is asked to make a row of each of so many, of about so many tokens."""
    if config.product != "plain_chats":
        known = None if config.product == "neutral" else spec
        yield _calls(known, config.product, rows, tokens, rows * tokens)


def _calls(spec: ModelSpec | None, template: str, calls: int, variable: int, tokens_out: int) -> Calls:
    """``calls`` of a template; ``variable`` tokens of each come with what is put into it."""
    prefix = _tokens(spec.body) + _tokens((FOLDER / "spec.j2").read_text()) if spec else 0
    own = _tokens((FOLDER / f"{template}.j2").read_text()) + variable
    return Calls(template, calls, calls * (prefix + own), calls * prefix, tokens_out)


def _tokens(text: str) -> int:
    return len(text) // CHARACTERS_PER_TOKEN
