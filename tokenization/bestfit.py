"""Best-fit decreasing bin packing.

Pieces are placed from long to short, each into the row with the least room that still takes it, else into a new row.
With rows of 10 tokens the lengths 3, 7, 6, 4 become::

    7 -> new row [7]      6 -> new row [6]      4 -> [6 4] is full      3 -> [7 3] is full

The search for "least room that suffices" is one integer operation: bit ``r`` of an integer is set while some row has
room ``r`` left, so the answer is the lowest set bit of that integer at or above bit ``need``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def best_fit(lengths: NDArray[np.int32], capacity: int) -> NDArray[np.int64]:
    """Pack pieces into rows, long ones first; equal lengths are placed in the order given.

    Args:
        lengths: (pieces,) tokens in each piece, from 1 to ``capacity``.
        capacity: tokens that a row can take.

    Returns:
        (pieces,) the row of each piece; rows are numbered from 0 in the order in which they were opened.
    """
    assert not len(lengths) or (lengths.min() > 0 and lengths.max() <= capacity)
    row_of = np.empty(len(lengths), np.int64)
    rows_with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms = 0
    opened = 0
    order = np.argsort(-lengths, kind="stable")
    for piece, need in zip(order.tolist(), lengths[order].tolist(), strict=True):
        enough = rooms >> need
        if enough:
            room = need + (enough & -enough).bit_length() - 1
            row = rows_with_room[room].pop()
            if not rows_with_room[room]:
                rooms ^= 1 << room
        else:
            room, row = capacity, opened
            opened += 1
        row_of[piece] = row
        rows_with_room[room - need].append(row)
        rooms |= 1 << (room - need)
    return row_of
