import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tokenization.packing.bestfit import Filled, best_fit

CASES = st.integers(1, 60).flatmap(lambda s: st.tuples(st.just(s), st.lists(st.integers(1, s), max_size=80)))


def one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """Rooms left, by trying every row for every piece."""
    rooms: list[int] = []
    for need in sorted(lengths, reverse=True):
        fitting = [index for index, room in enumerate(rooms) if room >= need]
        if fitting:
            rooms[min(fitting, key=lambda index: rooms[index])] -= need
        else:
            rooms.append(capacity - need)
    return sorted(rooms)


def rooms(filled: Filled, lengths: NDArray[np.int32], capacity: int) -> list[int]:
    ends = np.concatenate([[0], np.cumsum(lengths[filled.pieces], dtype=np.int64)])
    return sorted((capacity - np.diff(ends[filled.offsets])).tolist())


@given(CASES)
def test_it_is_best_fit_piece_by_piece(case: tuple[int, list[int]]) -> None:
    capacity, given_lengths = case
    lengths = np.array(given_lengths, np.int32)
    filled = best_fit(lengths, capacity)
    assert sorted(filled.pieces.tolist()) == list(range(len(lengths)))
    assert rooms(filled, lengths, capacity) == one_by_one(given_lengths, capacity)


@pytest.mark.parametrize("capacity", [100, 1 << 16, (1 << 16) + 1, 1 << 20])
def test_it_is_best_fit_at_any_capacity(capacity: int) -> None:
    """With short sort keys and long ones, and rooms that are thousands of bits apart."""
    lengths = np.random.default_rng(0).integers(1, capacity + 1, 600).astype(np.int32)
    lengths[:3] = 1, capacity, capacity // 2
    filled = best_fit(lengths, capacity)
    assert rooms(filled, lengths, capacity) == one_by_one(lengths.tolist(), capacity)


def test_a_row_is_from_long_to_short_and_equal_lengths_keep_their_order() -> None:
    lengths = np.array([3, 7, 3, 6, 4, 3, 3, 3], np.int32)
    filled = best_fit(lengths, 10)
    begins, ends = filled.offsets[:-1], filled.offsets[1:]
    rows = [filled.pieces[begin:end].tolist() for begin, end in zip(begins, ends, strict=True)]
    assert rows == [[1, 0], [3, 4], [2, 5, 6], [7]]


def test_more_pieces_than_are_written_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(1).integers(1, 101, 5_000).astype(np.int32)
    whole = best_fit(lengths, 100)
    monkeypatch.setattr("tokenization.packing.bestfit.CHUNK_PIECES", 7)
    some = best_fit(lengths, 100)
    assert (whole.pieces == some.pieces).all() and (whole.offsets == some.offsets).all()


def test_it_wastes_little() -> None:
    """Documents of about 1,000 tokens in rows of 4,096, as in midtraining: at most one token in 2,000 is padding."""
    lengths = np.random.default_rng(0).lognormal(np.log(1000) - 0.32, 0.8, 1_000_000).clip(8, 4096).astype(np.int32)
    rows = len(best_fit(lengths, 4096).offsets) - 1
    assert 1 - lengths.sum() / (rows * 4096) < 0.0005


def test_no_pieces_make_no_rows() -> None:
    filled = best_fit(np.zeros(0, np.int32), 10)
    assert (filled.pieces.tolist(), filled.offsets.tolist()) == ([], [0])
