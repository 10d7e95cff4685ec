import numpy as np

from tokenization.encoded import Encoded, Ragged, interleave

NOTHING = Encoded(np.empty(0, np.int32), np.empty(0, np.int32), None)


def ragged(*texts: list[int]) -> Ragged:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return Ragged(np.array([token for text in texts for token in text], np.int32), offsets)


def documents(*texts: list[int]) -> Encoded:
    ended = ragged(*texts).ended(9)
    return Encoded(ended.ids, np.diff(ended.offsets).astype(np.int32), None)


def test_each_text_gets_one_end() -> None:
    ended = ragged([5, 6], [], [7]).ended(9)
    assert ended.ids.tolist() == [5, 6, 9, 9, 7, 9]
    assert ended.offsets.tolist() == [0, 3, 4, 6]
    assert (ended.ids.dtype, ended.offsets.dtype) == (np.int32, np.int64)


def test_no_texts_give_no_tokens() -> None:
    assert ragged().ended(9).ids.tolist() == []


def test_without_an_end_texts_stay_as_they_are() -> None:
    texts = ragged([5, 6])
    assert texts.ended(None) is texts


def test_texts_and_chats_come_back_in_the_order_of_the_rows() -> None:
    texts = documents([1], [2, 2])
    ids, mask = np.array([7, 8, 9, 6, 9], np.int32), np.array([0, 1, 1, 0, 1], np.uint8)
    chats = Encoded(ids, np.array([3, 2], np.int32), mask)
    merged = interleave(texts, chats, np.array([True, False, False, True]))
    assert merged.ids.tolist() == [7, 8, 9, 1, 9, 2, 2, 9, 6, 9]
    assert merged.lengths.tolist() == [3, 2, 3, 2]
    assert merged.mask is not None
    assert merged.mask.tolist() == [0, 1, 1, 1, 1, 1, 1, 1, 0, 1]


def test_texts_alone_have_no_mask() -> None:
    texts = documents([1])
    assert interleave(texts, NOTHING, np.array([False])) is texts
