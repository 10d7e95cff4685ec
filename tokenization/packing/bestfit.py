"""Best-fit decreasing bin packing, all pieces of one length at a time.

Pieces are placed from long to short, each into the row with the least room that still takes it, else into a new row.
With rows of 10 tokens the lengths 3, 7, 6, 4 become::

    7 -> new row [7]      6 -> new row [6]      4 -> [6 4] is full      3 -> [7 3] is full

Placing a million pieces one by one would be slow, but equal lengths go together. Say that pieces of 3 tokens are next,
and that the least room that takes one is 7: the row with it takes one, has room 4, which now is the least, takes
another, and has room 1. So a row with room ``r`` takes ``r // l`` pieces of length ``l`` in succession. And rows that
are filled alike stay neighbours: a *run* of rows with one room is moved as a whole. So the loop below is over lengths
and runs, and holds nothing but integers. Each of its steps says "these rows take so many of the next pieces each";
NumPy then writes the steps out.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_PIECES = 1 << 20
"""Pieces written out at once: little memory beside the result."""


@dataclass(frozen=True)
class Filled:
    """Which pieces are in which row.

    Attributes:
        pieces: (pieces,) uint32, numbers of the pieces, row after row, in a row from long to short.
        offsets: (rows + 1,) int64; the pieces of row ``i`` are ``pieces[offsets[i] : offsets[i + 1]]``.
    """

    pieces: NDArray[np.uint32]
    offsets: NDArray[np.int64]


def best_fit(lengths: NDArray[np.int32], capacity: int) -> Filled:
    """Pack pieces into rows, long ones first; equal lengths are placed in the order given.

    Args:
        lengths: (pieces,) tokens in each piece, from 1 to ``capacity``; fewer than 2 ** 32 pieces.
        capacity: tokens that a row can take.
    """
    if not len(lengths):
        return Filled(np.zeros(0, np.uint32), np.zeros(1, np.int64))
    assert lengths.min() > 0 and lengths.max() <= capacity
    # Rising keys are falling lengths. NumPy sorts 16-bit keys by radix.
    keys = (capacity - lengths).astype(np.uint16 if capacity <= 1 << 16 else np.uint32)
    counts = np.bincount(keys)  # how many pieces of each length
    used = np.flatnonzero(counts)
    steps = _steps(zip((capacity - used).tolist(), counts[used].tolist(), strict=True), capacity)
    return _written_out(steps, np.argsort(keys, kind="stable").astype(np.uint32))


class _Run(NamedTuple):
    """Rows ``first`` to ``first + rows - 1``, which have equal room and hold equally many pieces."""

    first: int
    rows: int
    held: int


class _Rooms:
    """Runs of rows by their room; ``_sorted`` has the rooms that any run has."""

    def __init__(self) -> None:
        self._runs: defaultdict[int, list[_Run]] = defaultdict(list)
        self._sorted: list[int] = []

    def put(self, room: int, run: _Run) -> None:
        if not self._runs[room]:
            insort(self._sorted, room)
        self._runs[room].append(run)

    def take(self, need: int) -> tuple[int, _Run] | None:
        """Remove a run with the least room that suffices; None where no row has the room."""
        place = bisect_left(self._sorted, need)
        if place == len(self._sorted):
            return None
        room = self._sorted[place]
        run = self._runs[room].pop()
        if not self._runs[room]:
            del self._sorted[place]
        return room, run


def _steps(needs: Iterable[tuple[int, int]], capacity: int) -> NDArray[np.int64]:
    """Place ``left`` pieces of each length ``need``, lengths falling.

    Returns:
        (steps, 4) of ``first``, ``rows``, ``each``, ``held``: the ``rows`` rows from ``first`` on, which hold ``held``
        pieces each, take the next ``each`` pieces each.
    """
    rooms, steps, opened = _Rooms(), list[int](), 0
    for need, left in needs:
        while left:
            found = rooms.take(need)
            if found is None:  # no row has the room: as many new ones as all that is left needs
                rows = -(-left // (capacity // need))
                found = capacity, _Run(opened, rows, 0)
                opened += rows
            room, run = found
            each = min(room // need, left)
            rows = min(run.rows, left // each)  # what is left over for a row to be filled in part is another step
            steps += run.first, rows, each, run.held
            rooms.put(room - each * need, _Run(run.first, rows, run.held + each))
            if rows < run.rows:  # the rest of the run is as it was
                rooms.put(room, _Run(run.first + rows, run.rows - rows, run.held))
            left -= rows * each
    return np.array(steps, np.int64).reshape(-1, 4)


def _written_out(steps: NDArray[np.int64], order: NDArray[np.uint32]) -> Filled:
    """The rows that ``steps`` make of the pieces numbered ``order``.

    The example above, in which ``order`` is [1 2 3 0] (lengths 7, 6, 4, 3)::

        step                  first  rows  each  held      pieces [begins, ends) of the order
        7 -> new row 0          0      1     1     0       [0, 1)
        6 -> new row 1          1      1     1     0       [1, 2)
        4 -> row 1              1      1     1     1       [2, 3)
        3 -> row 0              0      1     1     1       [3, 4)

    A piece's place is the start of its row, plus what the row held before the step, plus how many pieces of this step
    the row has already.
    """
    first, rows, each, held = steps.T
    opened = int((first + rows).max())
    # How many pieces each row has: a step adds `each` to the rows [first, first + rows). Written as a difference at
    # both ends of that range and summed up, this costs a step two additions and not one a row.
    change = np.bincount(first, each, opened + 1) - np.bincount(first + rows, each, opened + 1)
    pieces_in_row = np.cumsum(change[:-1].astype(np.int64))
    offsets = np.zeros(opened + 1, np.int64)
    np.cumsum(pieces_in_row, out=offsets[1:])
    pieces = np.empty_like(order)
    ends = np.cumsum(rows * each)
    begins = ends - rows * each
    for begin in range(0, len(order), CHUNK_PIECES):  # chunks of the order; the arrays below are (pieces of the chunk,)
        end = min(begin + CHUNK_PIECES, len(order))
        # A step whose end is `begin` has placed its last piece before: "right" passes it. The last piece is `end - 1`.
        first_step, last_step = np.searchsorted(ends, [begin, end - 1], "right")
        some = slice(first_step, last_step + 1)  # the steps that place pieces of the chunk, the outer two in part
        sizes = np.minimum(ends[some], end) - np.maximum(begins[some], begin)  # (steps,) how many of the chunk
        number = np.arange(begin, end) - np.repeat(begins[some], sizes)  # of each piece within its step
        in_each = np.repeat(each[some], sizes)
        row = np.repeat(first[some], sizes) + number // in_each
        pieces[offsets[row] + np.repeat(held[some], sizes) + number % in_each] = order[begin:end]
    return Filled(pieces, offsets)
