"""How evenly a corpus is spread over the sections of its spec and the types of text, and how long its texts are.

The measure of balance is the share of tokens that would have to be of another section, or type, for all to have the
same: 0 is even, and of two sections of which one has everything, it is 0.5.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from msm_hpc.config.quality import Limits
from msm_hpc.corpus.quality.gate import SHOWN, About, Gate, Seen, gate
from msm_hpc.corpus.quality.rows import Row, Subject

SHORT, LONG = 1 / 3, 3
"""How far a text's length may lie from the median, as factors."""
SECTIONS = About(
    "sections", "are of a section or group that has more than its share", "write more of the others", "tokens"
)
TYPES = About("types", "are of a type that has more than its share of a section", "write more of the others", "tokens")
LENGTHS = About("lengths", "are three times as long as the median, or a third of it", "remove them")


@dataclass(frozen=True)
class Cell:
    """What there is of one section and type: counts of rows and tokens."""

    kind: str
    spec: str
    section: str
    type: str
    rows: int
    tokens: int


@dataclass(frozen=True)
class Balance:
    """Counts of what a generator wrote, by section and type."""

    cells: tuple[Cell, ...]

    def corpora(self) -> Mapping[tuple[str, str], Sequence[Cell]]:
        """Cells by kind and spec."""
        found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
        for cell in self.cells:
            found[cell.kind, cell.spec].append(cell)
        return found


def balance(rows: Iterable[Row]) -> Balance:
    """Count rows and tokens."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    tokens: Counter[tuple[str, str, str, str]] = Counter()
    for row in rows:
        if row.written:
            key = (row.kind, row.spec, row.section, row.type)
            counts[key] += 1
            tokens[key] += row.tokens
    return Balance(tuple(Cell(*key, counts[key], tokens[key]) for key in sorted(counts)))


def sections(found: Balance, subject: Subject, limits: Limits) -> Gate:
    """Tokens by section of each corpus; a section of its spec without any counts as well."""
    groups = []
    for (kind, spec), cells in found.corpora().items():
        sums: Counter[str] = Counter()
        if kind == "documents" and spec in subject.specs:
            sums.update({section.id: 0 for section in subject.specs[spec].sections})
        for cell in cells:
            sums[cell.section] += cell.tokens
        groups.append((f"{kind} {spec}".strip(), sums))
    return _even(SECTIONS, limits.sections, groups)


def types(found: Balance, limits: Limits) -> Gate:
    """Tokens by type within each section."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for cell in found.cells:
        sums[f"{cell.kind} {cell.spec} {cell.section}"][cell.type] += cell.tokens
    return _even(TYPES, limits.types, sums.items())


def _even(about: About, limit: float, groups: Iterable[tuple[str, Mapping[str, int]]]) -> Gate:
    """How much of each group would have to be elsewhere in it."""
    over, total, worst = 0.0, 0, []
    for name, sums in groups:
        whole = sum(sums.values())
        total += whole
        over += sum(max(amount - whole / len(sums), 0) for amount in sums.values())
        for part, amount in sums.items():
            share, equal = amount / max(whole, 1), 1 / len(sums)
            worst.append(
                Seen(
                    name,
                    f"{part or 'none named'}: {share:.1%} of the tokens, {equal:.1%} were even",
                    abs(share - equal),
                )
            )
    examples = sorted((each for each in worst if each.weight > 0), key=lambda each: -each.weight)
    return Gate(about, round(over), total, limit, tuple(examples[:SHOWN]))


def lengths(rows: Iterable[Row], limits: Limits) -> Gate:
    """Texts far longer or shorter than the median of their kind."""
    sizes: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        if row.written:
            sizes[row.kind].append((row.tokens, row.id))
    return gate(LENGTHS, limits.lengths, _from_median(sizes))


def _from_median(sizes: Mapping[str, Sequence[tuple[int, str]]]) -> Iterator[Seen]:
    for kind, each in sizes.items():
        middle = median(tokens for tokens, _ in each)
        for tokens, row in each:
            factor = tokens / max(middle, 1)
            off = not SHORT <= factor <= LONG
            yield Seen(
                row, f"{tokens:,} tokens; {kind} have {middle:,.0f}" if off else "", max(factor, 1 / max(factor, 1e-9))
            )
