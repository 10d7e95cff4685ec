"""Reading ahead: the next items are made in a thread while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], depth: int) -> Iterator[T]:
    """The items in order, at most ``depth`` of them made ahead; an exception is raised where its item would have come.

    The thread ends with the items, or when the iterator is closed or deleted, after the item in progress.
    """
    assert depth > 0
    iterator = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(thread.submit(_one, iterator) for _ in range(depth))
        while one := ahead.popleft().result():
            ahead.append(thread.submit(_one, iterator))
            yield from one
    finally:
        thread.shutdown(cancel_futures=True)


def _one(iterator: Iterator[T]) -> list[T]:
    """The next item, or none at the end."""
    return list(islice(iterator, 1))
