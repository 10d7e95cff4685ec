"""The results as data: ``results.json`` is this, and the tables, plots and page show nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import Cell, ModelSize
from msm_hpc.report.efficiency import Saved
from msm_hpc.report.gates import Corpus
from msm_hpc.report.left_out import LeftOut
from msm_hpc.report.statistics import Interval, Over

FILE = "results.json"
Side = tuple[str, str, str | None, int | None]
"""Model, arm, spec and size: what a condition is known by."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% intervals.

    Attributes:
        mean: over all pairs and seeds.
        pairs: the interval over the pairs asked; None for log-odds in a single domain.
        seeds: the interval over training seeds; None for fewer than two.
    """

    mean: float
    pairs: Interval | None
    seeds: Interval | None

    @property
    def shown(self) -> Interval | None:
        """The interval to show where there is room for one: over training seeds if there is one, else over pairs."""
        return self.seeds or self.pairs


@dataclass(frozen=True)
class Preference:
    """How much the option that expresses the value was preferred to the other.

    Attributes:
        preferred: pairs in which it was.
        n: pairs asked, summed over seeds (a pair that two seeds were asked counts twice).
        effective_n: the number of independent pairs that the rate's interval over pairs was computed for.
        orders_agree: pairs in which both orders of the options gave the same choice.
        rate: ``preferred / n``; None where the model, or one of several seeds, answers by position
            (:mod:`msm_hpc.base.position`). The log-odds are the mean of both orders, in which a habit cancels.
        log_odds: of its answer against the other's, in nats; where they are near 0, even a rate far from one half
            means little.
    """

    preferred: int
    n: int
    effective_n: float
    orders_agree: int
    rate: Estimate | None
    log_odds: Estimate


@dataclass(frozen=True)
class DomainResult:
    """A preference in one domain; its interval over pairs treats the different pairs asked as independent."""

    domain: str
    preference: Preference


@dataclass(frozen=True)
class ValueResult:
    """A preference for one value, over all domains and in each."""

    value: str
    preference: Preference
    domains: tuple[DomainResult, ...]


def preference_for(value: str, results: tuple[ValueResult, ...]) -> Preference | None:
    """The preference for ``value`` among ``results``, or None where it is missing."""
    return next((result.preference for result in results if result.value == value), None)


@dataclass(frozen=True)
class CellResult:
    """One model's preferences, its pairs treated as independent; none where the evaluation is missing."""

    cell: Cell
    values: tuple[ValueResult, ...]

    @property
    def missing(self) -> bool:
        """Whether no evaluation was found."""
        return not self.values

    def preference(self, value: str) -> Preference | None:
        """The preference for ``value``, or None where it is missing."""
        return preference_for(value, self.values)


@dataclass(frozen=True)
class Condition:
    """The cells that differ only in their seed, and what they prefer together, its pairs clustered by domain."""

    model: str
    arm: str
    spec: str | None
    size: int | None
    cells: tuple[CellResult, ...]
    values: tuple[ValueResult, ...]

    def preference(self, value: str) -> Preference | None:
        """The pooled preference for ``value``, or None where it is missing."""
        return preference_for(value, self.values)

    @property
    def evaluated(self) -> str:
        """How many seeds were evaluated: ``2``, or ``1 of 2`` where some are missing."""
        found = sum(not cell.missing for cell in self.cells)
        return str(found) if found == len(self.cells) else f"{found} of {len(self.cells)}"


@dataclass(frozen=True)
class Contrast:
    """The preference for ``value`` under ``spec`` minus that under ``other_spec``: same model, arm, size and seeds.

    ``spec`` is the one that is named as the value is, if one of the two is, so that above 0 is towards the own value.

    Attributes:
        seeds: those that both specs were evaluated with.
        by_seed: the difference in log-odds of each of them; the intervals over seeds are paired like this.
        rate: the difference in rate; the interval over pairs is paired over domains. None where a model of either
            answers by position.
        log_odds: the difference in log-odds, likewise.
    """

    value: str
    model: str
    arm: str
    spec: str
    other_spec: str
    size: int | None
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    rate: Estimate | None
    log_odds: Estimate

    @property
    def agreeing(self) -> int:
        """On how many seeds the log-odds differ in the direction of their mean."""
        return sum(difference * self.log_odds.mean > 0 for difference in self.by_seed)


@dataclass(frozen=True)
class Measurement:
    """One number of one model, or of the seeds of a model together: a row of ``results.parquet``.

    Attributes:
        seed: None for all seeds together.
        seeds: how many there are in it.
        eval: as the campaign calls it; preferences by log-probability are ``preference/VALUE``.
        group: what of the eval; None for all of it.
        rate: whether every value of the metric is a truth, so that ``total`` is a count.
        asked: how many samples there should be, by the model that has the most: ``n`` that have a value, and the others
            by reason in ``missing``.
        mean: of the samples of a model, and of the means of its seeds; None where no sample has a value.
        low: the lower end of the 95% interval over what ``over`` says; None where there is none.
        high: the upper end.
        again: how much the mean would move, as a standard error, if the same models were asked the same again; None
            where each was asked once.
        steps: those that measured it.
    """

    model: str
    arm: str
    spec: str | None
    size: int | None
    seed: int | None
    seeds: int
    eval: str
    metric: str
    group: str | None
    rate: bool
    n: int
    asked: int
    missing: Mapping[str, int]
    total: float
    mean: float | None
    low: float | None
    high: float | None
    over: Over
    again: float | None
    steps: tuple[str, ...]

    @property
    def without(self) -> str:
        """Why there is no mean, as one word."""
        return next(iter(self.missing)) if len(self.missing) == 1 else "none_scored"


@dataclass(frozen=True)
class Comparison:
    """One metric of one arm and spec minus another, on the items that both were asked: same model, and seeds.

    Attributes:
        size: of the first; the other has the same, or none.
        seeds: those that both were measured with.
        by_seed: the difference on each.
        difference: the mean of them; every item counts the same.
        low: the lower end of the 95% interval over what ``over`` says; None where there is none.
        high: the upper end.
        p: of Student's test that the difference is 0, over the same; None where nothing differs, or there is one only.
        holm: ``p`` adjusted for all comparisons of the report (S. Holm, 1979).
        again: how much the difference would move, as a standard error, if the same models were asked again.
        saturated: where both rates are so near the same end that a difference cannot show.
    """

    eval: str
    metric: str
    model: str
    size: int | None
    arm: str
    spec: str | None
    other_arm: str
    other_spec: str | None
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    difference: float
    low: float | None
    high: float | None
    over: Over
    p: float | None
    holm: float | None
    again: float | None
    saturated: Literal["", "floor", "ceiling"]


@dataclass(frozen=True)
class Absent:
    """A result that is not there: of a model, by an eval (empty for preferences by log-probability), and why."""

    cell: Cell
    eval: str
    step: str
    why: str


@dataclass(frozen=True)
class Results:
    """A whole report; ``measured`` are all seeds together, those of each are in ``results.parquet``."""

    title: str
    counted: Literal["chats", "turns", "documents", "rows"]
    notices: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    values: tuple[str, ...]
    conditions: tuple[Condition, ...]
    contrasts: tuple[Contrast, ...]
    saved: tuple[Saved, ...] = ()
    measured: tuple[Measurement, ...] = ()
    compared: tuple[Comparison, ...] = ()
    persistence: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, ModelSize] = field(default_factory=dict)
    absent: tuple[Absent, ...] = ()
    corpora: tuple[Corpus, ...] = ()

    @property
    def cells(self) -> tuple[CellResult, ...]:
        """The cells of all conditions."""
        return tuple(cell for condition in self.conditions for cell in condition.cells)

    @property
    def several_models(self) -> bool:
        """Whether there is more than one model, so that readers have to see which."""
        return len({condition.model for condition in self.conditions}) > 1

    @property
    def size_heading(self) -> str:
        """Over the sizes of conditions."""
        return f"AFT {self.counted}" if self.counted in ("chats", "turns") else self.counted


def side(of: Cell | Condition | Measurement) -> Side:
    """The condition that something is of."""
    return (of.model, of.arm, of.spec, of.size)


def load_results(out: Path) -> Results:
    """Read the ``results.json`` in the output folder of a report step.

    Raises:
        UserError: there is no such file.
    """
    path = out / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the report step first")
    return TypeAdapter(Results).validate_json(path.read_bytes())
