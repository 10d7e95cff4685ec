"""What a model scored on each item: all that measurements, tests and curves are made of.

A ``scores.parquet`` has a row a sample, millions in a campaign; its sums over the samples of each item are as good for
every number of the report, and few. An eval has several metrics, each with its own :class:`Items`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from msm_hpc.base.scores import read_scores
from msm_hpc.report.metrics import Metric, family
from msm_hpc.report.statistics import Cluster

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]
Key = tuple[str, str]
"""Group and name of an item."""


@dataclass(frozen=True)
class Items:
    """One metric of one model: an entry an item, those of a group next to each other, and groups of a family too.

    Attributes:
        keys: the group and name of each; a group such as ``murder/global`` belongs to the family ``murder``.
        n: how many samples of the item have a value.
        total: the sum of their values.
        squares: the sum of their values' squares.
        missing: group and reason to how many samples have no value.
    """

    keys: tuple[Key, ...]
    n: Floats
    total: Floats
    squares: Floats
    missing: Mapping[tuple[str, str], int]

    @cached_property
    def groups(self) -> Mapping[str, slice]:
        """The groups, and which items are theirs."""
        return _runs(group for group, _ in self.keys)

    @cached_property
    def families(self) -> Mapping[str, slice]:
        """The families of groups, and which items are theirs."""
        return _runs(family(group) for group, _ in self.keys)

    @property
    def truths(self) -> bool:
        """Whether every value is 0 or 1."""
        return bool((self.squares == self.total).all() and (self.total <= self.n).all() and (self.total >= 0).all())

    @cached_property
    def scored(self) -> bool:
        """Whether every item has a value."""
        return bool(self.n.all())

    def part(self, of: slice) -> Items:
        """The items of some groups, with what is missing in these."""
        kept = {group for group, _ in self.keys[of]}
        missing = {key: count for key, count in self.missing.items() if key[0] in kept}
        return Items(self.keys[of], self.n[of], self.total[of], self.squares[of], missing)

    def only(self, keys: Iterable[Key]) -> Items:
        """The items with these keys, which are here."""
        places = {key: place for place, key in enumerate(self.keys)}
        of = [places[key] for key in keys]
        return replace(self, keys=tuple(keys), n=self.n[of], total=self.total[of], squares=self.squares[of])

    def with_values(self) -> Items:
        """The items that have a value."""
        return self if self.scored else self.only([key for key, n in zip(self.keys, self.n, strict=True) if n])

    def without(self, reason: str) -> Items:
        """The same items, of which none has a value for this reason."""
        missing = Counter(self.missing)
        for (group, _), n in zip(self.keys, self.n.tolist(), strict=True):
            missing[group, reason] += int(n)
        nothing = np.zeros_like(self.n)
        return Items(self.keys, nothing, nothing, nothing, missing)

    def sums(self, of: Iterable[slice]) -> Iterator[tuple[float, int]]:
        """The total and the number of values in each of some slices that follow on each other."""
        starts = [each.start for each in of]
        totals, counts = (np.add.reduceat(column, starts).tolist() for column in (self.total, self.n))
        return ((total, int(n)) for total, n in zip(totals, counts, strict=True))

    @property
    def mean(self) -> float:
        """The mean of all values, of which there are some."""
        return float(self.total.sum() / self.n.sum())

    @property
    def unit(self) -> Literal["groups", "items"]:
        """The largest unit of which there are several."""
        return "groups" if len(self.groups) > 1 else "items"

    @property
    def by_unit(self) -> Mapping[str, Cluster]:
        """The values of each unit that has any, by its name."""
        there = self.with_values()
        names = (
            there.groups
            if self.unit == "groups"
            else {name: slice(at, at + 1) for at, (_, name) in enumerate(there.keys)}
        )
        return {name: Cluster(*sums) for name, sums in zip(names, there.sums(names.values()), strict=True)}

    def why_missing(self) -> dict[str, int]:
        """Reason to how many samples have no value."""
        reasons: Counter[str] = Counter()
        for (_, reason), count in self.missing.items():
            reasons[reason] += count
        return dict(sorted(reasons.items()))


def _runs(names: Iterable[str]) -> dict[str, slice]:
    """Names of which equal ones stand together, and where."""
    runs, start = {}, 0
    for name, same in groupby(names):
        runs[name] = slice(start, start := start + len([*same]))
    return runs


Scored = Mapping[Metric, Items]
"""What a model scored, in the order in which evals wrote it."""


def read_items(folder: Path) -> Scored:
    """What the ``scores.parquet`` in ``folder`` says of a model.

    Raises:
        UserError: it is absent or damaged.
    """
    return items_of(read_scores(folder))


def items_of(scores: pa.Table) -> Scored:
    """The sums of a table of scores, by eval and metric."""
    import pyarrow.compute as pc

    table = scores.append_column("square", pc.multiply(scores["value"], scores["value"]))
    summed = table.group_by(["task", "metric", "group", "item"], use_threads=False).aggregate(
        [("value", "count"), ("value", "sum"), ("square", "sum")]
    )
    without = scores.filter(pc.is_null(scores["value"])).group_by(["task", "metric", "group", "missing"])
    missing: dict[Metric, dict[tuple[str, str], int]] = {}
    for row in without.aggregate([("sample", "count")]).to_pylist():
        of = missing.setdefault((row["task"], row["metric"]), {})
        of[row["group"], row["missing"]] = row["sample_count"]
    rows: dict[Metric, list[tuple[Key, float, float, float]]] = {}
    columns = (summed[name].to_pylist() for name in summed.column_names)
    for row in zip(*columns, strict=True):
        found = dict(zip(summed.column_names, row, strict=True))
        sums = (found["value_count"], found["value_sum"] or 0.0, found["square_sum"] or 0.0)
        rows.setdefault((found["task"], found["metric"]), []).append(((found["group"], found["item"]), *sums))
    return {key: _items(of, missing.get(key, {})) for key, of in rows.items()}


def _items(rows: Iterable[tuple[Key, float, float, float]], missing: Mapping[tuple[str, str], int]) -> Items:
    ordered = sorted(rows, key=lambda row: (family(row[0][0]), *row[0]))
    keys = tuple(key for key, *_ in ordered)
    n, total, squares = np.array([sums for _, *sums in ordered], dtype=np.float64).T.copy()
    return Items(keys, n, total, squares, missing)


def items_from(rows: Iterable[tuple[str, str, float]]) -> Items:
    """Items that were asked once each, from their group, name and value."""
    return _items((((group, name), 1.0, value, value**2) for group, name, value in rows), {})
