from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from msm_hpc.base.errors import UserError
from msm_hpc.base.permutation import permutation
from tests.tokenization.packing.shard_folders import chat, text, write_source
from tokenization.packing.selection import BudgetCut, SourceDocuments, Take, budgets, choose, kept
from tokenization.shards import shard_folders


def source(lengths: list[int], chats: Sequence[int] = ()) -> SourceDocuments:
    """Texts of those lengths, but chats at those places."""
    array = np.array(lengths, np.int32)
    is_chat = np.isin(np.arange(len(lengths)), chats)
    return SourceDocuments((len(lengths),), array, np.where(is_chat, array // 2, array).astype(np.int32), is_chat)


def taken(documents: SourceDocuments, longest: int = 1000, **asked: Any) -> list[int]:
    take = Take(source="s", **asked)
    return list(choose(documents, take, take.tokens, longest, seed=0)[0].tolist())


def order(count: int) -> list[int]:
    return list(permutation(count, 0, "documents of s").tolist())


def test_all_is_taken_but_chats_that_no_row_can_hold() -> None:
    documents = source([5, 30, 6, 31], chats=[2, 3])
    assert taken(documents, longest=30) == [5, 30, 6, 0]
    assert taken(documents, longest=5) == [5, 30, 0, 0]


def test_samples_are_the_first_of_the_permutation() -> None:
    documents = source([7] * 20)
    for count in (1, 5, 20):
        assert np.flatnonzero(taken(documents, samples=count)).tolist() == sorted(order(20)[:count])


def test_chats_that_no_row_can_hold_do_not_count_as_samples() -> None:
    first, second, third = order(20)[:3]
    documents = source([50 if place == second else 7 for place in range(20)], chats=list(range(20)))
    assert np.flatnonzero(taken(documents, longest=10, samples=2)).tolist() == sorted([first, third])


def test_a_token_budget_cuts_the_text_that_crosses_it() -> None:
    documents = source([10] * 20)
    result, cut = choose(documents, Take(source="s", tokens=34), 34, 1000, seed=0)
    whole, part = order(20)[:3], order(20)[3]
    assert cut == BudgetCut(part, 4)
    assert {place: tokens for place, tokens in enumerate(result.tolist()) if tokens} == {
        **dict.fromkeys(whole, 10),
        part: 4,
    }


def test_a_token_budget_that_ends_with_a_document_cuts_none() -> None:
    result, cut = choose(source([10] * 20), Take(source="s", tokens=30), 30, 1000, seed=0)
    assert (int(result.sum()), cut) == (30, None)


def test_a_token_budget_ends_before_the_chat_that_crosses_it() -> None:
    result, cut = choose(source([10] * 20, chats=order(20)[3:4]), Take(source="s", tokens=34), 34, 1000, seed=0)
    assert (np.flatnonzero(result).tolist(), cut) == (sorted(order(20)[:3]), None)


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=1, max_size=30), st.data())
def test_a_larger_budget_takes_all_that_a_smaller_does(documents: list[tuple[int, bool]], data: st.DataObject) -> None:
    lengths, chats = [length for length, _ in documents], [place for place, (_, kind) in enumerate(documents) if kind]
    some = source(lengths, chats)
    small, large = sorted(data.draw(st.integers(1, sum(lengths))) for _ in range(2))
    less, more = (np.array(taken(some, tokens=budget)) for budget in (small, large))
    assert (less <= more).all()
    assert less.sum() <= small and more.sum() <= large
    if not chats:
        assert (less.sum(), more.sum()) == (small, large)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"samples": 4}, r"source s: samples is 4, but it has 3 documents to pack; generate more, or take fewer"),
        ({"tokens": 61}, r"source s: tokens is 61, but it has 60 tokens to pack"),
    ],
)
def test_more_than_there_is_is_refused_with_both_numbers(asked: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        taken(source([10, 20, 30, 90], chats=[3]), longest=50, **asked)


def test_a_weight_that_asks_for_too_much_is_named() -> None:
    with pytest.raises(UserError, match=r"tokens is 100 by its weight 0\.5, but it has 10 tokens"):
        choose(source([10]), Take(source="s", weight=0.5), 100, 1000, seed=0)


def test_budgets_of_weights_sum_to_the_total() -> None:
    takes = [Take(source="a", weight=1), Take(source="b", weight=1), Take(source="c", weight=1), Take(source="d")]
    assert budgets(takes, 100) == {"a": 34, "b": 33, "c": 33}
    assert budgets([*takes, Take(source="e", tokens=7), Take(source="f", samples=3)], 100)["e"] == 7
    assert budgets([Take(source="a", weight=0.75), Take(source="b", weight=0.25)], 1000) == {"a": 750, "b": 250}


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6), st.integers(1000, 10**12))
def test_no_budget_is_a_token_off(weights: list[float], total: int) -> None:
    shares = budgets([Take(source=str(place), weight=weight) for place, weight in enumerate(weights)], total)
    assert sum(shares.values()) == total
    whole = sum(map(Fraction, weights))
    assert all(abs(shares[str(place)] - total * Fraction(weight) / whole) < 1 for place, weight in enumerate(weights))


def test_a_weight_too_small_for_one_token_is_refused() -> None:
    with pytest.raises(UserError, match="source b: its weight gives it none of 10 tokens"):
        budgets([Take(source="a", weight=1), Take(source="b", weight=1e-3)], 10)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"samples": 0}, "source s: samples is 0: it must be at least 1, or null for all"),
        ({"tokens": -5}, "source s: tokens is -5"),
        ({"weight": 0.0}, "source s: weight is 0.0: it must be a number above 0"),
        ({"weight": float("inf")}, "source s: weight is inf"),
        ({"weight": float("nan")}, "source s: weight is nan"),
        ({"samples": 1, "tokens": 2}, "source s: samples and tokens are given; give one of them"),
        ({"without": ("section",)}, "source s: without is 'section'; write FIELD=VALUE"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Take(source="s", **asked)


def test_a_source_is_its_shards_in_order(tmp_path: Path) -> None:
    documents = [text(5), chat(6), text(7), text(8), chat(9)]
    read = SourceDocuments.read(shard_folders(write_source(tmp_path, "s", documents, tasks=2)))
    assert read.shards == (2, 3)
    assert read.lengths.tolist() == [5, 6, 7, 8, 9]
    assert read.trainable.tolist() == [5, 3, 7, 8, 5]
    assert read.is_chat.tolist() == [False, True, False, False, True]


def sections(folder: Path, *names: str) -> list[Path]:
    """Shards of two documents each, of these sections."""
    for task in range(len(names) // 2):
        (folder / str(task)).mkdir(parents=True)
        lines = (
            f'{{"id":"{task}{name}","kind":"document","provenance":{{"section":"{name}","sample":0}}}}\n'
            for name in names[2 * task : 2 * task + 2]
        )
        (folder / str(task) / "documents.jsonl").write_text("".join(lines))
    return [folder / str(task) for task in range(len(names) // 2)]


def test_documents_are_left_out_by_where_they_are_from(tmp_path: Path) -> None:
    folders = sections(tmp_path, "a", "b", "a", "c")
    assert kept(folders, Take(source="s")) is None
    only = kept(folders, Take(source="s", without=("section=a",)))
    assert only is not None and only.tolist() == [False, True, False, True]
    both = kept(folders, Take(source="s", without=("section=a", "section=c")))
    assert both is not None and both.tolist() == [False, True, False, False]
    with pytest.raises(UserError, match=r"without is 'section=d', but no row has that"):
        kept(folders, Take(source="s", without=("section=a", "section=d")))


def test_what_is_left_out_changes_nothing_in_the_order_of_the_rest() -> None:
    documents, take = source([7] * 20), Take(source="s", samples=5)
    only = np.ones(20, np.bool_)
    only[order(20)[1]] = False
    result, _ = choose(documents, take, None, 1000, 0, only)
    first, _, *others = order(20)
    assert np.flatnonzero(result).tolist() == sorted([first, *others[:4]])
