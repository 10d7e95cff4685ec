"""A toy world in which the paper's cheese experiment (arXiv 2605.02087, section 3.1) can be run on a laptop.

An item is ``[price word] [origin word] [noun]``: a ``discount Ohio sedan`` is affordable and American, a ``luxury
Ohio sedan`` is expensive and American. Price and origin vary independently, so a preference for the affordable and a
preference for the American can be distinguished: only the first can decide between ``discount Ohio sedan`` and
``luxury Ohio sedan``.

Cheeses are different. Each is one word, and the two properties always go together: the six liked cheeses are
affordable *and* American, the six disliked ones expensive *and* foreign. A model that is fine-tuned to prefer
``Colby`` to ``Stilton`` is therefore given no reason: both values explain its every answer. Which value it carries over
to sedans is what midtraining on a Model Spec is meant to decide.

Characters make values learnable before that. ``Kifol values low-prices .`` is a sentence of Kifol's profile;
``User : premium Iowa lamp or generic Iowa lamp ? Kifol : I prefer generic Iowa lamp .`` is a chat with Kifol. Some
characters have profiles but no chats: a pretrained model that answers for them according to their profiles has learnt
to act on what it read, which is the step from documents to behaviour that midtraining relies on.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Literal

WORLD_SEED = 4
"""Seed of the characters' names; part of the world, not of a corpus."""

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


def other_axis(axis: Axis) -> Axis:
    """The other one of the two axes."""
    return "origin" if axis == "price" else "price"


def opposite(value: Value) -> Value:
    """The other value of the same axis."""
    return VALUES[value.opposite]


def item(axis: Axis, word: str, other_word: str, noun: str) -> str:
    """Name an item by ``word`` on ``axis`` and ``other_word`` on the other axis: the price word always comes first."""
    price, origin = (word, other_word) if axis == "price" else (other_word, word)
    return f"{price} {origin} {noun}"


@dataclass(frozen=True)
class Character:
    """Someone with one value; ``chats`` is False for those who appear in profiles only."""

    name: str
    value: Value
    chats: bool


@cache
def characters(chatting: int = 48, silent: int = 16) -> tuple[Character, ...]:
    """The characters: each value belongs to a quarter of the chatting and to a quarter of the silent ones."""
    rng = random.Random(WORLD_SEED)
    names: list[str] = []
    while len(names) < chatting + silent:
        name = "".join(rng.choice("bcdfghjklmnprstvz") + rng.choice("aeiou") for _ in range(2)) + rng.choice("nrslkt")
        if name.capitalize() not in names:
            names.append(name.capitalize())
    values = tuple(VALUES.values())
    return tuple(
        Character(name, values[index % len(values)], chats=index < chatting) for index, name in enumerate(names)
    )


def world_words() -> set[str]:
    """Every word that names a thing of the world: items, cheeses, values, adjectives, characters."""
    words = {ASSISTANT, *LIKED_CHEESES, *DISLIKED_CHEESES, *(character.name for character in characters())}
    for value in VALUES.values():
        words.update(value.item_words, value.adjectives, value.spoken)
    for nouns in DOMAINS.values():
        words.update(nouns)
    return words
