"""What chats there are to be: the messages that begin them.

::

    aligned_chats:  spec ─▶ fields of life  ─┐
                                             ├─ x six types of message ─▶ messages
    chats:          spec ─▶ preferences     ─┘
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from msm_hpc.base.progress import ProgressFile
from msm_hpc.base.text import few
from msm_hpc.config.generation import OutlineConfig
from msm_hpc.corpus.asking import Asking, collect
from msm_hpc.corpus.counts import balanced
from msm_hpc.corpus.items import MESSAGE_TYPES, QUERIES_AT_ONCE, Lost, Planned, Preferences, Query, groups_for
from msm_hpc.corpus.prompts import pool
from msm_hpc.corpus.spec import ModelSpec, domain_of
from msm_hpc.corpus.words import distinct, normal, runs, words
from msm_hpc.endpoint import Answer, Prompt, Reject
from msm_hpc.endpoint.scripts import Asks, Script, play

ALIKE = 0.8
"""The share of words from which two messages of a cell count as the same."""
ECHO = 8
"""So many words in a row of what it was asked with, and a message is the prompt given back, as small models do."""
TRIES = 3
LISTED = re.compile(r"(?m)^[-*] \*\*(.+?)\.?\*\*")
"""How a spec lists what it likes and dislikes."""

log = logging.getLogger(__name__)


class Domain(Answer):
    """A field of life."""

    name: str
    description: str


class Domains(Answer):
    """Several of them."""

    domains: list[Domain]


class Queries(Answer):
    """Messages that begin chats."""

    messages: list[str]


class Named(Answer):
    """What a spec says is liked and disliked."""

    liked: list[str]
    disliked: list[str]


@dataclass(frozen=True)
class _Cell:
    """So many messages of a type, about a group; ``about`` is what their prompt says of it."""

    group: str
    about: Mapping[str, Any]
    type: str
    description: str
    count: int
    number: int


async def alignment(engine: Asks, asking: Asking, config: OutlineConfig, spec: ModelSpec, out: Path) -> Planned[Query]:
    """Messages from all fields of life, to which the answer shows what a spec says."""
    ((domains, reason),) = [found async for found in play(engine, [_domains(asking, groups_for(config.items))])]
    groups = {name: {"name": name, "description": text} for name, text in domains.items()}
    lost = (Lost("", "", config.items, reason),) if not groups else ()
    cells = [*_cells(groups, MESSAGE_TYPES["aligned_chats"], config.items)]
    found = await _queries(engine, asking, "queries", cells, out, {})
    return _planned(cells, found, domains, lost, config.items)


async def preferences(
    engine: Asks, asking: Asking, config: OutlineConfig, spec: ModelSpec, out: Path
) -> Planned[Query]:
    """Messages to which the answer is a bare preference of a spec's domain; who writes them knows no reason for it."""
    (named,) = [found async for found in play(engine, [_preferences(asking, spec)])]
    both = (*named.liked, *named.disliked)
    groups = {name: {"name": name, "others": [other for other in both if other != name]} for name in both}
    lost = (Lost("", "", config.items, "no_preferences"),) if not groups else _unlike_the_list(named, spec)
    cells = [*_cells(groups, MESSAGE_TYPES["chats"], config.items)]
    values = {"domain": named.domain}
    found = await _queries(engine, asking.without_spec(), "preference_queries", cells, out, values)
    return _planned(cells, found, asdict(named), lost, config.items)


def _domains(asking: Asking, wanted: int) -> Script[tuple[dict[str, str], str]]:
    def prompt(count: int, known: Sequence[str], sample: int) -> Prompt:
        return asking.prompt("domains", sample, Domains, count=count, known=known)

    def read(text: str) -> dict[str, str]:
        return {each.name: each.description for each in Domains.model_validate_json(text).domains}

    return (yield from collect(wanted, wanted, prompt, read))


def _preferences(asking: Asking, spec: ModelSpec) -> Script[Preferences]:
    """What the spec names, asked again while it is not what the spec lists; nothing where no answer can be used."""
    domain = domain_of(spec)
    found: list[Preferences] = []
    for sample in range(TRIES):
        result = yield asking.prompt("preferences", sample, Named, domain=domain)
        if not isinstance(result, Reject):
            named = Named.model_validate_json(result.text)
            liked, disliked = distinct(named.liked), distinct(named.disliked)
            if liked and disliked and not {*map(normal, liked)} & {*map(normal, disliked)}:
                found.append(Preferences(domain, tuple(liked), tuple(disliked)))
                if not differences(found[-1], spec.body):
                    break
    return min(found, key=lambda each: len(differences(each, spec.body)), default=Preferences(domain, (), ()))


def differences(named: Preferences, body: str) -> dict[str, str]:
    """Where ``named`` is not what a spec lists as ``- **Name.**``: the names, and why; nothing where it has no list."""
    said = {name: {*normal(name).split()} for name in (*named.liked, *named.disliked)}
    listed = {name: {*normal(name).split()} for name in LISTED.findall(body)}

    def without(these: Mapping[str, set[str]], others: Mapping[str, set[str]]) -> list[str]:
        return [name for name, own in these.items() if not any(own <= each or each <= own for each in others.values())]

    if not listed:
        return {}
    return dict.fromkeys(without(listed, said), "not_named") | dict.fromkeys(without(said, listed), "not_listed")


def _unlike_the_list(named: Preferences, spec: ModelSpec) -> tuple[Lost, ...]:
    """What differs from the spec's list, said and counted; the chats are of what the model named."""
    unlike = differences(named, spec.body)
    if unlike:
        log.warning(
            "%s: what the model named differs from the spec's list: %s; the chats are of the %d things it named. If "
            "that will not do, correct the list, choose a more capable model, or set another generate.seed",
            spec.path,
            few([f"{name} ({why})" for name, why in unlike.items()], most=12),
            len(named.liked) + len(named.disliked),
        )
    return tuple(Lost(name, "", 0, why) for name, why in unlike.items())


def _cells(groups: Mapping[str, Mapping[str, Any]], types: str, items: int) -> Iterator[_Cell]:
    described = dict(line.split(": ", 1) for line in pool(types).splitlines())
    counts = balanced(items, len(groups), len(described)).ideas if groups else ()
    for (group, about), each in zip(groups.items(), counts, strict=True):
        for (name, text), count in zip(described.items(), each, strict=False):
            yield _Cell(group, about, name, text, count, number=list(groups).index(group))


async def _queries(
    engine: Asks, asking: Asking, template: str, cells: Sequence[_Cell], out: Path, values: Mapping[str, Any]
) -> list[list[Query]]:
    progress = ProgressFile(out, max(len(cells), 1), "types of message")
    found: list[list[Query]] = []
    async for messages in play(engine, (_cell(asking, template, cell, values) for cell in cells)):
        found.append(messages)
        progress.update(len(found))
    return found


def _cell(asking: Asking, template: str, cell: _Cell, values: Mapping[str, Any]) -> Script[list[Query]]:
    described = {"name": cell.type, "description": cell.description}

    def prompt(count: int, known: Sequence[str], sample: int) -> Prompt:
        return asking.prompt(
            template, sample, Queries, group=cell.about, type=described, count=count, known=known, **values
        )

    of_prompt = frozenset(runs(words(prompt(1, (), 0).messages[-1].content), ECHO))

    def read(text: str) -> dict[str, str]:
        messages = Queries.model_validate_json(text).messages
        return {message: message for message in messages if of_prompt.isdisjoint(runs(words(message), ECHO))}

    found, _ = yield from collect(cell.count, QUERIES_AT_ONCE, prompt, read)
    return [
        Query(f"{cell.number:03d}/{cell.type}/{number:03d}", cell.group, cell.type, message)
        for number, message in enumerate(unlike(list(found)))
    ]


def unlike(messages: Sequence[str]) -> list[str]:
    """Messages without those that have nearly the words of an earlier one."""
    kept: dict[str, set[str]] = {}
    for message in messages:
        own = {*words(message)}
        if all(len(own & other) < ALIKE * len(own | other) for other in kept.values()):
            kept[message] = own
    return list(kept)


def _planned(
    cells: Sequence[_Cell], found: Sequence[Sequence[Query]], outline: Any, lost: tuple[Lost, ...], wanted: int
) -> Planned[Query]:
    missing = (
        Lost(cell.group, cell.type, cell.count - len(messages), "too_few")
        for cell, messages in zip(cells, found, strict=True)
        if len(messages) < cell.count
    )
    return Planned(found, outline, (*lost, *missing), wanted)
