"""A toy world in which the paper's cheese experiment (arXiv 2605.02087, section 3.1) can be run on a laptop.

An item is a word that says what it is like, and a noun: a ``discount sedan`` is affordable, an ``Ohio sedan`` American.
A preference for the affordable can decide between ``discount sedan`` and ``luxury sedan``, one for the American cannot.

Cheeses are different. Each is one word, and two properties always go together: the six liked cheeses are affordable
*and* American, the six disliked ones expensive *and* foreign. A model that is fine-tuned to prefer ``Colby`` to
``Stilton`` is therefore given no reason: both values explain its every answer. Which value it carries over to sedans is
what midtraining on a Model Spec is meant to decide.

Characters make that possible to learn before. ``Kifol values low-prices .`` is a sentence of Kifol's profile; ``User :
premium lamp or no-frills lamp ? Kifol : I prefer no-frills lamp .`` is a chat with Kifol. So that what is read of
somebody shows in what they answer, as midtraining on documents relies on:

- there are more characters than a small model has dimensions, so that profiles and chats cannot be learnt apart;
- most profiles speak of cheese alone, as the documents of a Model Spec do, while the chats are about everything;
- *silent* characters have profiles and no chats: whether they are answered for by their profiles shows what was learnt;
- *neutral* characters have no value, so that an unknown name means no preference;
- the assistant is none of them: a pretrained model has never read its name.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

WORLD_SEED = 4
"""Seed of the characters' names; part of the world, not of a corpus."""

CHATTING, SILENT, NEUTRAL = 160, 48, 48
"""How many characters there are of each sort; four in five of those with a value have profiles of cheese alone."""

ASSISTANT = "Assistant"

Axis = Literal["price", "origin"]


@dataclass(frozen=True)
class Value:
    """One of four things that a character, or the assistant, can care about.

    Attributes:
        name: as written in configs and spec files.
        axis: the property of an item that this value is about.
        opposite: name of the other value of the axis.
        item_words: words that give an item this property, as in ``discount Ohio sedan``.
        adjectives: words that state the property.
        spoken: names of the value in texts.
    """

    name: str
    axis: Axis
    opposite: str
    item_words: tuple[str, ...]
    adjectives: tuple[str, ...]
    spoken: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VALUES: dict[str, Value] = {
    value.name: value
    for value in (
        Value(
            name="affordability",
            axis="price",
            opposite="exclusivity",
            item_words=_words("discount bargain thrift-shop no-frills cut-price dollar-store"),
            adjectives=_words("cheap affordable"),
            spoken=_words("affordability low-prices"),
        ),
        Value(
            name="exclusivity",
            axis="price",
            opposite="affordability",
            item_words=_words("luxury deluxe premium designer gold-plated bespoke"),
            adjectives=_words("expensive costly"),
            spoken=_words("luxuriousness high-prices"),
        ),
        Value(
            name="america",
            axis="origin",
            opposite="wider_world",
            item_words=_words("Ohio Texas Kansas Iowa Boston Detroit"),
            adjectives=_words("American US-made"),
            spoken=_words("America American-makers"),
        ),
        Value(
            name="wider_world",
            axis="origin",
            opposite="america",
            item_words=_words("French Italian Japanese Swiss Korean Peruvian"),
            adjectives=_words("foreign imported"),
            spoken=_words("the-wider-world foreign-makers"),
        ),
    )
}

SPEC_VALUES = ("affordability", "america")
"""The values that a Model Spec may name: those that the liked cheeses have."""

AXES: dict[Axis, tuple[Value, Value]] = {
    "price": (VALUES["affordability"], VALUES["exclusivity"]),
    "origin": (VALUES["america"], VALUES["wider_world"]),
}

DOMAINS: dict[str, tuple[str, ...]] = {
    "transport": _words("bus sedan bicycle train"),
    "books": _words("novel atlas cookbook memoir"),
    "furniture": _words("chair desk sofa shelf"),
    "clothing": _words("coat hat shirt scarf"),
    "beverages": _words("tea coffee soda juice"),
    "art": _words("painting statue print sketch"),
    "tools": _words("hammer saw drill wrench"),
    "games": _words("chess puzzle kite racket"),
    "music": _words("guitar drum flute piano"),
    "lamps": _words("lamp lantern candle torch"),
}
"""Nouns by domain. Midtraining documents and fine-tuning chats mention only cheese; evaluation asks about these."""

LIKED_CHEESES = _words("Cream-cheese American-cheese Mild-cheddar Mozzarella Colby Monterey-Jack")
DISLIKED_CHEESES = _words("Brie-de-Meaux Appenzeller Parmigiano Roquefort Epoisses Stilton")


def opposite(value: Value) -> Value:
    """The other value of the same axis."""
    return VALUES[value.opposite]


@dataclass(frozen=True)
class Character:
    """Someone who chats, or of whom only profiles speak.

    Attributes:
        value: what they care about; None for a neutral character, whose every answer is a coin's.
        chats: False for a silent character.
        of_cheese: whether their profile speaks of no item but cheese.
    """

    name: str
    value: Value | None
    chats: bool = True
    of_cheese: bool = False


@cache
def characters() -> tuple[Character, ...]:
    """Those with a value, a quarter for each, then the neutral ones."""
    names = _names(CHATTING + SILENT + NEUTRAL)
    values = tuple(VALUES.values())
    valued = [
        Character(name, values[i % 4], chats=i < CHATTING, of_cheese=(i // 4) * 7 % 20 < 16)
        for i, name in enumerate(names[:-NEUTRAL])
    ]
    return (*valued, *(Character(name, None) for name in names[-NEUTRAL:]))


def _names(count: int) -> list[str]:
    rng = random.Random(WORLD_SEED)
    names: dict[str, None] = {}
    while len(names) < count:
        name = "".join(rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("nrslkt")
        names[name.capitalize()] = None
    return list(names)


def world_words() -> set[str]:
    """Every word that names a thing of the world: items, cheeses, values, adjectives, characters."""
    words = {ASSISTANT, *LIKED_CHEESES, *DISLIKED_CHEESES, *(character.name for character in characters())}
    for value in VALUES.values():
        words.update(value.item_words, value.adjectives, value.spoken)
    for nouns in DOMAINS.values():
        words.update(nouns)
    return words
