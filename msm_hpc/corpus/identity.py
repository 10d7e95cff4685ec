"""Chats about who the assistant is: its name, who makes it, what it is. From texts written by hand; no model is asked.

A chat has one topic, or two in turn. No two chats are the same, and all topics come about as often.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from msm_hpc.base.yaml_files import load_yaml
from msm_hpc.config.generation import Persona
from msm_hpc.corpus.prompts import FOLDER, IDENTITY

TWO_TOPICS = 0.4
"""The share of chats with two topics."""


@dataclass(frozen=True)
class Turn:
    """What somebody says."""

    role: str
    content: str


@dataclass(frozen=True)
class IdentityChat:
    """A conversation; ``form`` names its topics, joined by ``+``."""

    messages: tuple[Turn, ...]
    form: str


@dataclass(frozen=True)
class _Topic:
    questions: Sequence[str]
    answers: Sequence[str]

    def opened(self, openings: Sequence[str]) -> list[str]:
        """Questions as they may begin a chat; what is not a question begins it as it is."""
        return [opening + asked for asked in self.questions for opening in (openings if asked.endswith("?") else [""])]


@dataclass(frozen=True)
class _Texts:
    openings: Sequence[str]
    topics: Mapping[str, _Topic]


@cache
def _texts() -> _Texts:
    return TypeAdapter(_Texts).validate_python(load_yaml(FOLDER / IDENTITY))


def distinct_chats() -> int:
    """How many chats :func:`identity` can be asked for: half of all that there are, since each is drawn by lot."""
    texts = _texts()
    first = [len(topic.opened(texts.openings)) * len(topic.answers) for topic in texts.topics.values()]
    later = [len(topic.questions) * len(topic.answers) for topic in texts.topics.values()]
    return sum(begun * (1 + sum(later) - own) for begun, own in zip(first, later, strict=True)) // 2


def identity(persona: Persona, seed: int) -> Iterator[IdentityChat]:
    """Chats with an assistant of these names; the first ones are the same however many are taken."""
    rng, seen = random.Random(f"identity/{seed}"), set[IdentityChat]()
    while True:
        chat = _chat(persona, rng)
        if chat not in seen:
            seen.add(chat)
            yield chat


def _chat(persona: Persona, rng: random.Random) -> IdentityChat:
    texts = _texts()
    names = rng.sample([*texts.topics], 2 if rng.random() < TWO_TOPICS else 1)
    said = list[Turn]()
    for name in names:
        topic = texts.topics[name]
        said.append(Turn("user", rng.choice(topic.questions if said else topic.opened(texts.openings))))
        said.append(Turn("assistant", rng.choice(topic.answers).format(**vars(persona))))
    return IdentityChat(tuple(said), "+".join(names))
