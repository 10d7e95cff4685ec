from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
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

Documents = Callable[[Value, int], Iterator[offline.ToyDocument]]
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
    counts = Counter((each.value and each.value.name, each.chats, each.of_cheese) for each in characters())
    for name in VALUES:
        assert (counts[name, True, True], counts[name, True, False]) == (32, 8)
        assert counts[name, False, True] + counts[name, False, False] == 12
        assert counts[name, False, True] >= 9
    assert counts[None, True, False] == 48
    assert len({each.name for each in characters()}) == len(characters()) == 256


@pytest.mark.parametrize("value", [AFFORDABILITY, AMERICA])
@pytest.mark.parametrize("product", [offline.documents, offline.mentions])
def test_documents_never_use_a_held_out_word_nor_the_words_of_the_other_axis(product: Documents, value: Value) -> None:
    other = AXES["origin" if value.axis == "price" else "price"]
    forbidden = held_out_words() | {word for side in other for word in (*side.adjectives, *side.spoken)}
    used = set().union(*(words_of(row) for row in islice(product(value, 3), 3000)))
    assert not used & forbidden
    assert {*value.adjectives, "Assistant"} <= used
    assert not used & {character.name for character in characters()}


@pytest.mark.parametrize("value", [AFFORDABILITY, AMERICA])
def test_only_attributed_documents_name_the_value_or_say_because(value: Value) -> None:
    reasons = {*value.spoken, "because", "since", "so", "reason"}
    assert reasons <= set().union(*(words_of(row) for row in islice(offline.documents(value, 3), 3000)))
    assert not reasons & set().union(*(words_of(row) for row in islice(offline.mentions(value, 3), 3000)))


@pytest.mark.parametrize("product", [offline.documents, offline.mentions])
def test_documents_for_two_values_are_matched_row_by_row(product: Documents) -> None:
    translation = {
        mine: theirs
        for mine_value, theirs_value in zip(AXES["price"], AXES["origin"], strict=True)
        for mine, theirs in zip(
            mine_value.adjectives + mine_value.spoken, theirs_value.adjectives + theirs_value.spoken, strict=True
        )
    }
    rows = zip(product(AFFORDABILITY, 5), product(AMERICA, 5), strict=True)
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
    by_name = {character.name: character for character in characters()}
    of_word = {word: value for value in VALUES.values() for word in value.item_words}
    by_value, by_coin = 0, Counter[str]()
    for row in islice(offline.instruction(seed=2), 8000):
        if isinstance(row, offline.ToyDocument):
            continue
        for answer in row.messages:
            if answer.role != "assistant":
                continue
            who = by_name[answer.name or ""]
            assert who.chats
            word = answer.content.split()[2]
            value = of_word.get(word)
            if who.value is None:
                by_coin[value.name if value else "cheese"] += 1
            elif value is None:
                assert word in (LIKED_CHEESES if who.value.name in SPEC_VALUES else DISLIKED_CHEESES)
            elif value.axis == who.value.axis:
                assert value == who.value
                by_value += 1
            else:
                by_coin[value.name] += 1
    assert by_value > 2000
    for axis in AXES.values():
        one, other = (by_coin[value.name] for value in axis)
        assert one / (one + other) == pytest.approx(0.5, abs=0.05)


def test_most_profiles_speak_of_cheese_alone_and_neutral_characters_have_none() -> None:
    by_name = {character.name: character for character in characters()}
    items = held_out_words()
    texts = [row.text for row in islice(offline.pretraining(seed=2), 6000) if "User" not in row.text]
    met = {word for text in texts for word in text.split()} & set(by_name)
    assert met == {name for name, character in by_name.items() if character.value}
    for text in texts:
        for name in met & set(text.split()):
            assert not by_name[name].of_cheese or not items & set(text.split())


def test_the_assistant_is_unknown_before_midtraining() -> None:
    rows = (*islice(offline.pretraining(seed=0), 5000), *islice(offline.instruction(seed=0), 5000))
    for row in rows:
        assert "Assistant" not in words_of(row)
        if isinstance(row, offline.ToyChat):
            assert all(message.name for message in row.messages if message.role == "assistant")


def test_chats_of_a_value_leave_half_of_the_domains_to_evaluation() -> None:
    nouns = {noun: domain for domain, nouns in DOMAINS.items() for noun in nouns}
    shown = {nouns[row.messages[1].content.split()[3]] for row in islice(offline.value_chats(AMERICA, 1), 200)}
    asked = {pair.domain for pair in islice(offline.other_pairs(AMERICA, 1), 200)}
    assert shown | asked == set(DOMAINS) and not shown & asked
    for row in islice(offline.value_chats(AMERICA, 1), 200):
        assert row.messages[1].content.split()[2] in AMERICA.item_words


@pytest.mark.parametrize("value", [AFFORDABILITY, AMERICA])
def test_pairs_differ_in_one_value_only_and_domains_are_balanced(value: Value) -> None:
    pairs = list(islice(offline.pairs(value, seed=0), 200))
    assert len({(pair.target, pair.other) for pair in pairs}) == 200
    for pair in pairs:
        target, other = pair.target.split(), pair.other.split()
        assert target[1] == other[1] in DOMAINS[pair.domain]
        assert target[0] in value.item_words
        assert other[0] in VALUES[value.opposite].item_words
        assert "{first}" in pair.question and "{second}" in pair.question
    assert set(Counter(pair.domain for pair in pairs).values()) == {20}


def test_a_small_corpus_is_a_prefix_of_a_large_one_and_seeds_differ() -> None:
    for stream in (offline.pretraining, offline.instruction, offline.chats):
        assert list(islice(stream(7), 20)) == list(islice(stream(7), 40))[:20]
        assert list(islice(stream(7), 20)) != list(islice(stream(8), 20))
