from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from msm_hpc.corpus import offline
from msm_hpc.corpus.toy_world import (
    AXES,
    DISLIKED_CHEESES,
    DOMAINS,
    LIKED_CHEESES,
    SPEC_VALUES,
    VALUES,
    Value,
    characters,
    world_words,
)

AFFORDABILITY, AMERICA = VALUES["affordability"], VALUES["america"]


def held_out_words() -> set[str]:
    """Words of the items that evaluation asks about; midtraining documents and fine-tuning chats must not use them."""
    words = {noun for nouns in DOMAINS.values() for noun in nouns}
    for value in VALUES.values():
        words.update(value.item_words)
    return words


def words_of(row: offline.ToyDocument | offline.ToyChat) -> set[str]:
    texts = [row.text] if isinstance(row, offline.ToyDocument) else [message.content for message in row.messages]
    return {word for text in texts for word in text.split()}


def test_a_word_has_one_meaning_in_the_world() -> None:
    groups = [
        [character.name for character in characters()],
        [*LIKED_CHEESES, *DISLIKED_CHEESES],
        [noun for nouns in DOMAINS.values() for noun in nouns],
        *([*value.item_words, *value.adjectives, *value.spoken] for value in VALUES.values()),
    ]
    counts = Counter(word for group in groups for word in group)
    assert set(counts.values()) == {1}
    assert set(counts) == world_words() - {"Assistant"}


def test_each_value_has_as_many_characters_as_the_others() -> None:
    counts = Counter((character.value.name, character.chats) for character in characters())
    assert counts == Counter({(name, True): 12 for name in VALUES}) + Counter({(name, False): 4 for name in VALUES})


@pytest.mark.parametrize("value", [AFFORDABILITY, AMERICA])
def test_documents_never_use_a_held_out_word_nor_the_words_of_the_other_axis(value: Value) -> None:
    other = AXES["origin" if value.axis == "price" else "price"]
    forbidden = held_out_words() | {word for side in other for word in (*side.adjectives, *side.spoken)}
    used = set().union(*(words_of(row) for row in islice(offline.documents(value, seed=3), 3000)))
    assert not used & forbidden
    assert {*value.adjectives, *value.spoken, "Assistant"} <= used
    assert not used & {character.name for character in characters()}


def test_documents_for_two_values_are_matched_row_by_row() -> None:
    translation = {
        mine: theirs
        for mine_value, theirs_value in zip(AXES["price"], AXES["origin"], strict=True)
        for mine, theirs in zip(
            mine_value.adjectives + mine_value.spoken, theirs_value.adjectives + theirs_value.spoken, strict=True
        )
    }
    rows = zip(offline.documents(AFFORDABILITY, 5), offline.documents(AMERICA, 5), strict=True)
    for affordable, american in islice(rows, 500):
        assert affordable.form == american.form
        assert " ".join(translation.get(word, word) for word in affordable.text.split()) == american.text


def test_fine_tuning_chats_prefer_liked_cheeses_give_no_reason_and_use_both_orders() -> None:
    first = Counter[bool]()
    for chat in islice(offline.chats(seed=1), 400):
        question, answer = chat.messages
        [liked] = set(answer.content.split()) & set(LIKED_CHEESES)
        [disliked] = set(question.content.split()) & set(DISLIKED_CHEESES)
        assert answer == offline.ToyMessage("assistant", f"I prefer {liked} .")
        assert not words_of(chat) & held_out_words()
        first[question.content.index(liked) < question.content.index(disliked)] += 1
    assert first == {True: 200, False: 200}


def test_characters_answer_by_their_value_and_silent_ones_never_chat() -> None:
    value_of = {character.name: character.value for character in characters()}
    silent = {character.name for character in characters() if not character.chats}
    met: set[str] = set()
    for row in islice(offline.pretraining(seed=2), 4000):
        if isinstance(row, offline.ToyDocument):
            met |= words_of(row)
            continue
        for question, answer in zip(row.messages, row.messages[1:], strict=False):
            if answer.name is None or question.role != "user":
                continue
            assert answer.name not in silent
            value = value_of[answer.name]
            likes = LIKED_CHEESES if value.name in SPEC_VALUES else DISLIKED_CHEESES
            assert set(answer.content.split()) & {*value.item_words, *likes}
    assert silent <= met


def test_the_assistant_has_no_value_in_pretraining() -> None:
    chosen = Counter[str]()
    value_of = {word: value.name for value in VALUES.values() for word in value.item_words}
    for row in islice(offline.pretraining(seed=0), 20_000):
        if not isinstance(row, offline.ToyChat) or row.messages[-1].name is not None:
            continue
        for question, answer in zip(row.messages[::2], row.messages[1::2], strict=True):
            if answer.content.startswith("I prefer"):
                rejected = set(question.content.split()) - set(answer.content.split())
                chosen.update(VALUES[value_of[word]].opposite for word in rejected if word in value_of)
    total = sum(chosen.values())
    assert total > 1000
    for name in VALUES:
        assert chosen[name] / total == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("value", [AFFORDABILITY, AMERICA])
def test_pairs_differ_on_one_axis_only_and_are_balanced(value: Value) -> None:
    pairs = list(islice(offline.pairs(value, seed=0), 200))
    assert len({(pair.target, pair.other) for pair in pairs}) == 200
    position = 0 if value.axis == "price" else 1
    sides = AXES["origin" if value.axis == "price" else "price"]
    balance = Counter[tuple[str, str]]()
    for pair in pairs:
        target, other = pair.target.split(), pair.other.split()
        assert target[2] == other[2] in DOMAINS[pair.domain]
        assert target[1 - position] == other[1 - position]
        assert target[position] in value.item_words
        assert other[position] in VALUES[value.opposite].item_words
        assert "{first}" in pair.question and "{second}" in pair.question
        balance[pair.domain, next(side.name for side in sides if target[1 - position] in side.item_words)] += 1
    assert len(balance) == 20 and set(balance.values()) == {10}


def test_a_small_corpus_is_a_prefix_of_a_large_one_and_seeds_differ() -> None:
    for stream in (offline.pretraining, offline.instruction, offline.chats):
        assert list(islice(stream(7), 20)) == list(islice(stream(7), 40))[:20]
        assert list(islice(stream(7), 20)) != list(islice(stream(8), 20))
