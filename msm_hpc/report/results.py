"""The results as data: ``results.json`` is this, and the table, plots and page show nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from pydantic import FiniteFloat, TypeAdapter

from msm_hpc.base.errors import UserError
from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.left_out import LeftOut
from msm_hpc.report.statistics import Count, Interval, difference_interval, effective_size, pooled_rate, wilson

FILE = "results.json"


@dataclass(frozen=True)
class AnswerRow:
    """A row of ``answers.jsonl``: a model's answer to one evaluation pair.

    A margin is the log-probability (nats) of the option that expresses the value minus that of the other: in each
    order of the options, and the mean of both.
    """

    id: str
    value: str
    domain: str
    margin_forward: FiniteFloat
    margin_backward: FiniteFloat
    margin: FiniteFloat

    @property
    def preferred(self) -> bool:
        """Whether the option that expresses the value was chosen."""
        return self.margin > 0

    @property
    def orders_agree(self) -> bool:
        """Whether both orders gave the same choice."""
        return (self.margin_forward > 0) == (self.margin_backward > 0)


@dataclass(frozen=True)
class Rate:
    """How often the option that expresses the value was preferred, with its 95% interval.

    Attributes:
        preferred: pairs in which it was.
        n: pairs asked, summed over seeds (a pair that two seeds were asked counts twice).
        rate: ``preferred / n``.
        low: lower end of the interval.
        high: upper end of the interval.
        effective_n: the number of independent pairs that the interval was computed for.
        margin: mean margin over pairs, in nats; where it is near 0, even a rate far from one half means little.
        orders_agree: pairs in which both orders of the options gave the same choice.
    """

    preferred: int
    n: int
    rate: float
    low: float
    high: float
    effective_n: float
    margin: float
    orders_agree: int


@dataclass(frozen=True)
class DomainRate:
    """A rate in one domain; its interval treats the different pairs asked as independent."""

    domain: str
    rate: Rate


@dataclass(frozen=True)
class ValueRate:
    """A rate for one value, over all domains and in each."""

    value: str
    rate: Rate
    domains: tuple[DomainRate, ...]


@dataclass(frozen=True)
class CellResult:
    """One model's rates, with Wilson intervals; none where the evaluation is missing."""

    cell: Cell
    rates: tuple[ValueRate, ...]

    @property
    def missing(self) -> bool:
        """Whether no evaluation was found."""
        return not self.rates


@dataclass(frozen=True)
class Condition:
    """The cells that differ only in their seed, and their pooled rates, with intervals clustered by domain."""

    model: str
    arm: str
    spec: str | None
    size: int | None
    cells: tuple[CellResult, ...]
    rates: tuple[ValueRate, ...]

    def rate(self, value: str) -> Rate | None:
        """The pooled rate for ``value``, or None where it is missing."""
        return next((entry.rate for entry in self.rates if entry.value == value), None)

    @property
    def evaluated(self) -> str:
        """How many seeds were evaluated: ``2``, or ``1 of 2`` where some are missing."""
        found = sum(not cell.missing for cell in self.cells)
        return str(found) if found == len(self.cells) else f"{found} of {len(self.cells)}"


@dataclass(frozen=True)
class Contrast:
    """The rate under ``spec`` minus the rate under ``other_spec``, of the same model, arm and size, over common seeds.

    ``low`` and ``high`` are the ends of the 95% interval: paired over domains, t interval.
    """

    value: str
    model: str
    arm: str
    spec: str
    other_spec: str
    size: int | None
    seeds: tuple[int, ...]
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Results:
    """A whole report."""

    title: str
    counted: Literal["chats", "turns", "documents", "rows"]
    notices: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    values: tuple[str, ...]
    conditions: tuple[Condition, ...]
    contrasts: tuple[Contrast, ...]

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


def load_results(out: Path) -> Results:
    """Read the ``results.json`` in the output folder of a report step.

    Raises:
        UserError: there is no such file.
    """
    path = out / FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; run the report step first")
    return TypeAdapter(Results).validate_json(path.read_bytes())


def summarise(
    config: ReportConfig,
    answers: Mapping[str, Sequence[AnswerRow]],
    notices: Sequence[str] = (),
    left_out: Sequence[LeftOut] = (),
) -> Results:
    """Rates, intervals and contrasts of all cells.

    Args:
        config: the cells, in the order of the conditions.
        answers: by evaluation step; a cell whose step has none is missing.
        notices: of the evaluations.
        left_out: what was left out of the data.

    Raises:
        UserError: two models were asked about different pairs.
    """
    _check_same_pairs(answers)
    groups: dict[tuple[str, str, str | None, int | None], list[Cell]] = {}
    for cell in config.cells:
        groups.setdefault((cell.model, cell.arm, cell.spec, cell.size), []).append(cell)
    conditions = tuple(_condition(cells, answers) for cells in groups.values())
    return Results(
        title=config.title,
        counted=config.counted,
        notices=(*config.notices, *notices),
        left_out=tuple(left_out),
        values=tuple(dict.fromkeys(answer.value for rows in answers.values() for answer in rows)),
        conditions=conditions,
        contrasts=tuple(_contrasts(config.contrasts, conditions, answers)),
    )


def _check_same_pairs(answers: Mapping[str, Sequence[AnswerRow]]) -> None:
    asked = {
        step: Counter((answer.id, answer.value, answer.domain) for answer in rows) for step, rows in answers.items()
    }
    first = next(iter(asked), "")
    for step in asked:
        if asked[step] != asked[first]:
            raise UserError(
                f"evaluations {first} and {step} asked about different pairs, so their rates cannot be compared; "
                "evaluate all models of a report on the same pairs"
            )


def _condition(cells: Sequence[Cell], answers: Mapping[str, Sequence[AnswerRow]]) -> Condition:
    by_seed = sorted(cells, key=lambda cell: cell.seed)
    results = tuple(CellResult(cell, _value_rates(answers.get(cell.step, ()), clustered=False)) for cell in by_seed)
    pooled = [answer for cell in by_seed for answer in answers.get(cell.step, ())]
    first = by_seed[0]
    return Condition(first.model, first.arm, first.spec, first.size, results, _value_rates(pooled, clustered=True))


def _value_rates(answers: Sequence[AnswerRow], clustered: bool) -> tuple[ValueRate, ...]:
    rates = []
    for value in dict.fromkeys(answer.value for answer in answers):
        domains = _by_domain(answer for answer in answers if answer.value == value)
        every = [answer for rows in domains.values() for answer in rows]
        counts, distinct = [_count(rows) for rows in domains.values()], _distinct(every)
        n = effective_size(counts, distinct) if clustered else distinct
        in_domains = tuple(DomainRate(domain, _rate(rows, _distinct(rows))) for domain, rows in domains.items())
        rates.append(ValueRate(value, _rate(every, n), in_domains))
    return tuple(rates)


def _by_domain(answers: Iterable[AnswerRow]) -> dict[str, list[AnswerRow]]:
    domains: dict[str, list[AnswerRow]] = {}
    for answer in answers:
        domains.setdefault(answer.domain, []).append(answer)
    return dict(sorted(domains.items()))


def _count(answers: Sequence[AnswerRow]) -> Count:
    return Count(sum(answer.preferred for answer in answers), len(answers))


def _distinct(answers: Sequence[AnswerRow]) -> int:
    """The number of different pairs asked: all seeds are asked the same ones."""
    return len({answer.id for answer in answers})


def _rate(answers: Sequence[AnswerRow], effective_n: float) -> Rate:
    count = _count(answers)
    rate = count.preferred / count.n
    interval = wilson(rate, effective_n)
    return Rate(
        preferred=count.preferred,
        n=count.n,
        rate=rate,
        low=interval.low,
        high=interval.high,
        effective_n=effective_n,
        margin=sum(answer.margin for answer in answers) / count.n,
        orders_agree=sum(answer.orders_agree for answer in answers),
    )


def _contrasts(
    arms: Sequence[str], conditions: Sequence[Condition], answers: Mapping[str, Sequence[AnswerRow]]
) -> Iterator[Contrast]:
    """Every two specs of the same model, arm and size, for each of ``arms``."""
    for first, second in combinations((condition for condition in conditions if condition.arm in arms), 2):
        if (first.model, first.arm, first.size) == (second.model, second.arm, second.size):
            yield from _compare(first, second, answers)


def _compare(first: Condition, second: Condition, answers: Mapping[str, Sequence[AnswerRow]]) -> Iterator[Contrast]:
    assert first.spec is not None and second.spec is not None, "an arm of report.contrasts has specs"
    steps, other_steps = (
        {result.cell.seed: result.cell.step for result in condition.cells if not result.missing}
        for condition in (first, second)
    )
    seeds = tuple(sorted(steps.keys() & other_steps.keys()))
    rows = [answer for seed in seeds for answer in answers[steps[seed]]]
    other_rows = [answer for seed in seeds for answer in answers[other_steps[seed]]]
    for value in dict.fromkeys(answer.value for answer in rows):
        difference, interval = _difference(rows, other_rows, value)
        yield Contrast(
            value=value,
            model=first.model,
            arm=first.arm,
            spec=first.spec,
            other_spec=second.spec,
            size=first.size,
            seeds=seeds,
            difference=difference,
            low=interval.low,
            high=interval.high,
        )


def _difference(first: Sequence[AnswerRow], second: Sequence[AnswerRow], value: str) -> tuple[float, Interval]:
    counts = []
    for answers in (first, second):
        domains = _by_domain(answer for answer in answers if answer.value == value)
        counts.append([_count(rows) for rows in domains.values()])
    return pooled_rate(counts[0]) - pooled_rate(counts[1]), difference_interval(counts[0], counts[1])
