import threading
from collections.abc import Iterator

import pytest

from tokenization.reading.prefetch import prefetch


@pytest.mark.parametrize("depth", [1, 2, 100])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_items_come_in_their_order(depth: int, count: int) -> None:
    assert list(prefetch(iter(range(count)), depth)) == list(range(count))


def test_items_are_made_ahead_in_one_other_thread_but_no_more_than_depth() -> None:
    made: list[int] = []
    threads = set()
    third = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            threads.add(threading.get_ident())
            if number == 2:
                third.set()
            yield number

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    assert third.wait(10), "nothing was made ahead"
    assert next(ahead) == 1
    assert len(made) <= 4
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_exception_comes_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = prefetch(items(), 4)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert list(ahead) == []


def test_the_thread_ends_when_the_reader_goes_away() -> None:
    threads: list[threading.Thread] = []

    def items() -> Iterator[int]:
        threads.append(threading.current_thread())
        while True:
            yield 1

    def read_two() -> None:
        for count, _ in enumerate(prefetch(items(), 3)):
            if count == 1:
                raise KeyError("the reader fails")

    with pytest.raises(KeyError):
        read_two()
    threads[0].join(10)
    assert not threads[0].is_alive()
