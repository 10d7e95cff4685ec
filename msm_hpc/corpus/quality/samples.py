"""Rows to be read by a person: drawn by a seed, from as many sections and types as there are."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from zlib import crc32

from msm_hpc.corpus.quality.rows import Row


def samples(rows: Iterable[Row], count: int, seed: int) -> list[Row]:
    """At most ``count`` rows, of as many cells as possible; the same for the same seed, whatever the rows' order.

    Kept while rows go by is one row of each kind, spec, section and type.
    """
    drawn: dict[tuple[str, str, str, str], tuple[int, Row]] = {}
    for row in rows:
        cell, lot = (row.kind, row.spec, row.section, row.type), _lot(row.id, seed)
        if cell not in drawn or lot > drawn[cell][0]:
            drawn[cell] = (lot, row)
    first = dict[tuple[str, str, str], int]()
    for cell, (lot, _) in drawn.items():
        first[cell[:3]] = max(lot, first.get(cell[:3], 0))
    ranked = ((lot == first[cell[:3]], lot, row) for cell, (lot, row) in drawn.items())
    chosen = nlargest(count, ranked, key=lambda each: each[:2])
    return sorted((row for _, _, row in chosen), key=lambda row: (row.kind, row.spec, row.section, row.type, row.id))


def _lot(row: str, seed: int) -> int:
    return crc32(f"{seed}/{row}".encode())
