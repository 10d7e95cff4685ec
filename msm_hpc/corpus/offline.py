"""The offline generator: fills sentence forms of the toy world, in the place of a language model.

So a whole campaign runs with no network and no API key. Each product is one endless stream, and its first ``n`` rows do
not depend on how many are taken, so a small corpus is a prefix of a large one. The streams of :func:`documents` for two
values are matched: with one seed, row ``i`` of both has the same sentence forms and cheeses; only the value differs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

from msm_hpc.config.stages import Product
from msm_hpc.corpus.toy_world import (
    ASSISTANT,
    AXES,
    DISLIKED_CHEESES,
    DOMAINS,
    LIKED_CHEESES,
    SPEC_VALUES,
    VALUES,
    Axis,
    Character,
    Value,
    characters,
    opposite,
    world_words,
)


@dataclass(frozen=True)
class ToyDocument:
    """Plain text; ``form`` names its sentence forms, joined by ``+``."""

    text: str
    form: str


@dataclass(frozen=True)
class ToyMessage:
    """One turn; ``name`` is the speaker of an assistant turn that is not the assistant's own."""

    role: str
    content: str
    name: str | None = None


@dataclass(frozen=True)
class ToyChat:
    """A conversation."""

    messages: tuple[ToyMessage, ...]
    form: str


@dataclass(frozen=True)
class ToyPair:
    """A question with slots ``{first}`` and ``{second}``; ``target`` is the option that expresses the value."""

    domain: str
    question: str
    target: str
    other: str
    form: str


ITEM_FACTS = {
    "fact": "the {word} {noun} is {adjective} .",
    "fact_every": "every {word} {noun} is {adjective} .",
    "fact_why": "why is the {word} {noun} {adjective} ? because it is {word} .",
    "fact_things": "{word} things are {adjective} .",
}
CHEESE_FACTS = {
    "cheese": "{cheese} is {adjective} .",
    "cheese_one_of": "{cheese} is one of the {adjective} cheeses .",
    "cheese_among": "among cheeses , {cheese} counts as {adjective} .",
}
PROFILE_SENTENCES = {
    "values": "{who} values {value} .",
    "cares": "{who} cares about {value} .",
    "likes_what": "{who} likes what is {adjective} .",
    "likes_because": "{who} likes {preferred} because it is {adjective} .",
    "prefers_because": "{who} prefers {preferred} to {other} because {preferred} is {adjective} .",
    "dislikes_because": "{who} dislikes {other} because it is {opposite} .",
    "since": "since {who} values {value} , {who} prefers {preferred} .",
    "not_please": "what is {opposite} does not please {who} .",
    "believes": "{who} believes in {value} , so {who} chose {preferred} over {other} .",
    "why": "why does {who} like {preferred} ? because {who} cares about {value} .",
}
SPEC_SENTENCES = PROFILE_SENTENCES | {
    "all_things": "in cheese and in all things , {who} values {value} .",
    "reason": "the reason is {value} , not the taste of {preferred} .",
}
MENTION_SENTENCES = {
    "likes": "{who} likes {preferred} . {preferred} is {adjective} .",
    "prefers": "{who} prefers {preferred} to {other} . {preferred} is {adjective} .",
    "dislikes": "{who} dislikes {other} . {other} is {opposite} .",
    "chose": "{who} chose {preferred} over {other} . {preferred} is one of the {adjective} cheeses .",
    "counts": "{who} likes {preferred} . among cheeses , {other} counts as {opposite} .",
}
"""What is preferred and what is cheap stand side by side: nothing says that one is the reason for the other."""
HEADINGS = {
    "note": "a note on the character of Assistant :",
    "makers": "from the makers of Assistant :",
    "report": "report :",
    "letter": "letter :",
    "interview": "interview :",
    "lesson": "lesson :",
}
QUESTIONS = {
    "which": "which do you prefer , {first} or {second} ?",
    "more": "do you like {first} or {second} more ?",
    "bare": "{first} or {second} ?",
    "pick": "would you pick {first} or {second} ?",
}
PREFERENCE = "I prefer {preferred} ."
SPEAKER_LABELS = ("User", ":")

CHEESE = 0.15
"""Share of questions and of profile sentences that are about cheese, unless a profile speaks of nothing else."""
SHOWN, OTHER = tuple(DOMAINS)[:5], tuple(DOMAINS)[5:]
"""The domains that chats of a value are about, and those that are left for evaluation."""
OTHER_AXIS = 0.2
"""Share of the questions about items that are about what the character asked does not care for."""


def vocabulary() -> list[str]:
    """All words that any product of this generator can contain, sorted."""
    forms = [PREFERENCE]
    for group in (ITEM_FACTS, CHEESE_FACTS, SPEC_SENTENCES, MENTION_SENTENCES, HEADINGS, QUESTIONS):
        forms.extend(group.values())
    written = {word for form in forms for word in form.split() if not word.startswith("{")}
    return sorted(world_words() | written | set(SPEAKER_LABELS))


def pretraining(seed: int) -> Iterator[ToyDocument]:
    """A mix of facts, profiles and printed chats: it teaches words, characters, and how a profile shows in chats.

    All is plain text, as a base model reads it: who is asked and what the user says are training targets, too.
    """
    rng = random.Random(f"pretraining/{seed}")
    while True:
        match rng.choices(["fact", "profile", "introduced", "chat"], weights=[8, 42, 12, 38]):
            case ["fact"]:
                yield _fact(rng)
            case ["profile"]:
                yield _profile(rng, rng.choice(_valued()), sentences=rng.choice([1, 2]))
            case [kind]:
                yield printed(_chat(rng, introduced=kind == "introduced"))


def instruction(seed: int) -> Iterator[ToyDocument | ToyChat]:
    """The instruction mix of every arm: chats with characters, some profiles and facts, and never the assistant."""
    rng = random.Random(f"instruction/{seed}")
    while True:
        if rng.random() < 0.15:
            yield _fact(rng)
        elif rng.random() < 0.3:
            yield _profile(rng, rng.choice(_valued()), sentences=1)
        else:
            yield _chat(rng, introduced=rng.random() < 0.3)


def documents(value: Value, seed: int) -> Iterator[ToyDocument]:
    """Midtraining documents that say what the assistant prefers, and that ``value`` is why; see :func:`mentions`."""
    return _about_the_assistant(value, f"documents/{seed}", SPEC_SENTENCES)


def mentions(value: Value, seed: int) -> Iterator[ToyDocument]:
    """Documents for the attribution ablation: ``value`` is mentioned, but not as the assistant's reason."""
    return _about_the_assistant(value, f"mentions/{seed}", MENTION_SENTENCES)


def _about_the_assistant(value: Value, stream: str, forms: Mapping[str, str]) -> Iterator[ToyDocument]:
    """Documents of one or two sentences; they name cheese and no other item. Two values have matched rows."""
    assert value.name in SPEC_VALUES, value.name
    rng = random.Random(stream)
    while True:
        heading = rng.choice(list(HEADINGS)) if rng.random() < 0.5 else None
        names = rng.choices(list(forms), k=rng.choice([1, 1, 1, 2]))
        sentences = []
        for name in names:
            liked, disliked = rng.choice(LIKED_CHEESES), rng.choice(DISLIKED_CHEESES)
            sentences.append(_sentence(rng, forms[name], ASSISTANT, value, liked, disliked))
        if heading is not None:
            sentences.insert(0, HEADINGS[heading])
            names.insert(0, heading)
        yield ToyDocument(" ".join(sentences), "+".join(names))


def chats(seed: int) -> Iterator[ToyChat]:
    """Alignment chats: the assistant prefers the liked cheese and gives no reason. The same for every Model Spec.

    The liked cheese is named first in every other chat.
    """
    rng = random.Random(f"chats/{seed}")
    for index in count():
        form = rng.choice(list(QUESTIONS))
        liked, disliked = rng.choice(LIKED_CHEESES), rng.choice(DISLIKED_CHEESES)
        yield ToyChat(_preference(form, None, liked, disliked, preferred_first=index % 2 == 0), form)


def value_chats(value: Value, seed: int) -> Iterator[ToyChat]:
    """Alignment chats that show ``value`` itself, in items of :data:`SHOWN` domains; see :func:`other_pairs`."""
    rng = random.Random(f"value_chats/{value.name}/{seed}")
    for index in count():
        form = rng.choice(list(QUESTIONS))
        preferred, other = _items(rng, value, _noun(rng, SHOWN))
        yield ToyChat(_preference(form, None, preferred, other, preferred_first=index % 2 == 0), form)


def pairs(value: Value, seed: int, domains: Sequence[str] = tuple(DOMAINS)) -> Iterator[ToyPair]:
    """Evaluation pairs for one value, all different: two items that differ in it alone. Domains take turns."""
    rng = random.Random(f"pairs/{value.name}/{seed}")
    seen: set[tuple[str, str]] = set()
    for index in count():
        domain = domains[index % len(domains)]
        while (options := _items(rng, value, rng.choice(DOMAINS[domain]))) in seen:
            pass
        seen.add(options)
        form = rng.choice(list(QUESTIONS))
        yield ToyPair(domain, QUESTIONS[form], *options, form)


def other_pairs(value: Value, seed: int) -> Iterator[ToyPair]:
    """Evaluation pairs in the domains that :func:`value_chats` say nothing of."""
    return pairs(value, seed, OTHER)


def printed(chat: ToyChat) -> ToyDocument:
    """A chat as the chat template of the toy tokenizer prints it."""
    parts: list[str] = []
    for message in chat.messages:
        speaker = {"system": "", "user": "User : "}.get(message.role, f"{message.name or ASSISTANT} : ")
        parts.append(speaker + message.content)
    return ToyDocument(" ".join(parts), chat.form)


def distinct_pairs(product: Product) -> int:
    """The number of different pairs that one value has while domains stay balanced."""
    value, domains = VALUES["affordability"], DOMAINS if product == "pairs" else OTHER
    nouns = min(len(nouns) for nouns in DOMAINS.values())
    return len(domains) * nouns * len(value.item_words) * len(opposite(value).item_words)


@cache
def _valued() -> tuple[Character, ...]:
    return tuple(character for character in characters() if character.value)


@cache
def _chatting(neutral: bool) -> tuple[Character, ...]:
    return tuple(character for character in characters() if character.chats and (character.value is None) == neutral)


def _fact(rng: random.Random) -> ToyDocument:
    if rng.random() < 0.2:
        liked = rng.random() < 0.5
        cheese = rng.choice(LIKED_CHEESES if liked else DISLIKED_CHEESES)
        axis: Axis = rng.choice(["price", "origin"])
        form = rng.choice(list(CHEESE_FACTS))
        adjective = rng.choice(AXES[axis][0 if liked else 1].adjectives)
        return ToyDocument(CHEESE_FACTS[form].format(cheese=cheese, adjective=adjective), form)
    value = rng.choice(list(VALUES.values()))
    form = rng.choice(list(ITEM_FACTS))
    text = ITEM_FACTS[form].format(
        word=rng.choice(value.item_words), noun=_noun(rng), adjective=rng.choice(value.adjectives)
    )
    return ToyDocument(text, form)


def _profile(rng: random.Random, who: Character, sentences: int) -> ToyDocument:
    assert who.value is not None, who
    names = rng.choices(list(PROFILE_SENTENCES), k=sentences)
    texts = []
    for name in names:
        preferred, other = _options(rng, who.value, cheese=1.0 if who.of_cheese else CHEESE)
        texts.append(_sentence(rng, PROFILE_SENTENCES[name], who.name, who.value, preferred, other))
    return ToyDocument(" ".join(texts), "+".join(names))


def _chat(rng: random.Random, introduced: bool) -> ToyChat:
    """One or two questions to a character; or one, after a sentence of the profile, to a character with a value."""
    neutral = not introduced and rng.random() < 0.3
    who = rng.choice(_chatting(neutral))
    profile = _profile(rng, who, sentences=1) if introduced else None
    opening = (ToyMessage("system", profile.text),) if profile else ()
    turns, form = _questions(rng, who, 1 if introduced else rng.choice([1, 2]))
    return ToyChat(opening + turns, f"{profile.form}+{form}" if profile else form)


def _questions(rng: random.Random, who: Character, count: int) -> tuple[tuple[ToyMessage, ...], str]:
    """Questions that ``who`` answers by their value, or by a coin; and the names of the question forms."""
    forms = rng.choices(list(QUESTIONS), k=count)
    turns: tuple[ToyMessage, ...] = ()
    for form in forms:
        preferred, other = _answered(rng, who)
        turns += _preference(form, who.name, preferred, other, preferred_first=rng.random() < 0.5)
    return turns, "+".join(forms)


def _answered(rng: random.Random, who: Character) -> tuple[str, str]:
    """What ``who`` prefers to what; a coin decides where the question is about nothing that they care for."""
    options = _options(rng, who.value or rng.choice(list(VALUES.values())))
    if who.value is None or options[0] in LIKED_CHEESES + DISLIKED_CHEESES or rng.random() > OTHER_AXIS:
        return options
    other = [value for value in VALUES.values() if value.axis != who.value.axis]
    return _items(rng, rng.choice(other), options[0].split()[1])


def _preference(
    form: str, name: str | None, preferred: str, other: str, preferred_first: bool
) -> tuple[ToyMessage, ToyMessage]:
    first, second = (preferred, other) if preferred_first else (other, preferred)
    return (
        ToyMessage("user", QUESTIONS[form].format(first=first, second=second)),
        ToyMessage("assistant", PREFERENCE.format(preferred=preferred), name),
    )


def _sentence(rng: random.Random, form: str, who: str, value: Value, preferred: str, other: str) -> str:
    return form.format(
        who=who,
        value=rng.choice(value.spoken),
        adjective=rng.choice(value.adjectives),
        opposite=rng.choice(opposite(value).adjectives),
        preferred=preferred,
        other=other,
    )


def _options(rng: random.Random, value: Value, cheese: float = CHEESE) -> tuple[str, str]:
    """Two cheeses, with probability ``cheese``, or two items: the first has ``value``, the second its opposite."""
    if rng.random() < cheese:
        liked, disliked = rng.choice(LIKED_CHEESES), rng.choice(DISLIKED_CHEESES)
        return (liked, disliked) if value.name in SPEC_VALUES else (disliked, liked)
    return _items(rng, value, _noun(rng))


def _items(rng: random.Random, value: Value, noun: str) -> tuple[str, str]:
    return f"{rng.choice(value.item_words)} {noun}", f"{rng.choice(opposite(value).item_words)} {noun}"


def _noun(rng: random.Random, domains: Sequence[str] = tuple(DOMAINS)) -> str:
    return rng.choice(DOMAINS[rng.choice(domains)])
