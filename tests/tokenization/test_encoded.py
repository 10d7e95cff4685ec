import numpy as np

from tokenization.encoded import Encoded, Ragged, interleave, with_eod

NOTHING = Encoded(np.empty(0, np.int32), np.empty(0, np.int32), None)


def ragged(*texts: list[int]) -> Ragged:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return Ragged(np.array([token for text in texts for token in text], np.int32), offsets)


def test_each_text_gets_one_eod() -> None:
    encoded = with_eod(ragged([5, 6], [], [7]), eod_id=9)
    assert encoded.ids.tolist() == [5, 6, 9, 9, 7, 9]
    assert encoded.lengths.tolist() == [3, 1, 2]
    assert encoded.ids.dtype == encoded.lengths.dtype == np.int32
    assert encoded.mask is None


def test_no_texts_give_no_tokens() -> None:
    encoded = with_eod(ragged(), eod_id=9)
    assert len(encoded.ids) == len(encoded.lengths) == 0


def test_texts_and_chats_come_back_in_the_order_of_the_rows() -> None:
    texts = with_eod(ragged([1], [2, 2]), eod_id=9)
    ids, mask = np.array([7, 8, 9, 6, 9], np.int32), np.array([0, 1, 1, 0, 1], np.uint8)
    chats = Encoded(ids, np.array([3, 2], np.int32), mask)
    merged = interleave(texts, chats, np.array([True, False, False, True]))
    assert merged.ids.tolist() == [7, 8, 9, 1, 9, 2, 2, 9, 6, 9]
    assert merged.lengths.tolist() == [3, 2, 3, 2]
    assert merged.mask is not None
    assert merged.mask.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0, 1]


def test_texts_alone_have_no_mask() -> None:
    texts = with_eod(ragged([1]), eod_id=9)
    assert interleave(texts, NOTHING, np.array([False])) is texts
