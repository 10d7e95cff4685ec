"""Near-duplicates: texts that share most of their runs of five words, found by MinHash without comparing all pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rensa import RMinHash, RMinHashLSH

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import About, Gate, Seen, around, gate
from msm_hpc.corpus.quality.rows import Row
from msm_hpc.corpus.words import runs, words

RUN, SIMILAR = 5, 0.7
PERMUTATIONS, BANDS = 128, 32
"""With bands of four, of pairs with a similarity of 0.7 all but one in 5,000 are compared."""
NEAR = About(
    "near_duplicates",
    "say nearly the same as an earlier row",
    "remove the later ones, ask for more types, or raise the temperature",
)


def near_duplicates(rows: Iterable[Row], limits: Limits) -> Gate:
    """Rows that resemble an earlier one by more than 0.7 (Jaccard); kept of each row are its id and 128 numbers."""
    return gate(NEAR, limits.near_duplicates, _seen(rows))


def _seen(rows: Iterable[Row]) -> Iterator[Seen]:
    index = RMinHashLSH(threshold=SIMILAR, num_perm=PERMUTATIONS, num_bands=BANDS)
    sketches: list[tuple[str, RMinHash]] = []
    for row in rows:
        sketch = _sketch(row.whole)
        likeness, other = max(
            ((sketch.jaccard(sketches[key][1]), sketches[key][0]) for key in index.query(sketch)), default=(0.0, "")
        )
        index.insert(len(sketches), sketch)
        sketches.append((row.id, sketch))
        fault = f"{likeness:.0%} as {other}: {around(row.said, 0, 40)}" if likeness > SIMILAR else ""
        yield Seen(row.id, fault, likeness)


def _sketch(text: str) -> RMinHash:
    given = words(text)
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=0)
    sketch.update([" ".join(run) for run in runs(given, min(RUN, len(given)))] if given else [""])
    return sketch
