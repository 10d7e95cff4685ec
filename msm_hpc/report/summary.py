"""From the answers to the results: rates, log-odds, their intervals, and the contrasts between specs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from operator import attrgetter
from statistics import fmean

from pydantic import FiniteFloat

from msm_hpc.base.errors import UserError
from msm_hpc.base.position import by_position
from msm_hpc.config.stages import Cell, ReportConfig
from msm_hpc.report.left_out import LeftOut
from msm_hpc.report.results import (
    CellResult,
    Condition,
    Contrast,
    DomainResult,
    Estimate,
    Preference,
    Results,
    Side,
    ValueResult,
    side,
)
from msm_hpc.report.statistics import (
    Cluster,
    difference_interval,
    effective_size,
    mean,
    mean_interval,
    rate_difference,
    seed_interval,
    wilson,
)


@dataclass(frozen=True)
class AnswerRow:
    """A row of ``answers.jsonl``: a model's answer to one evaluation pair.

    A margin is the log-probability (nats) of the answer that expresses the value minus that of the other, which is the
    log-odds between them: in each order of the options, and the mean of both.
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

    @property
    def toward_first(self) -> float:
        """How much is added to the log-odds of an option by being named first."""
        return (self.margin_forward - self.margin_backward) / 2


Answers = Sequence[AnswerRow]
Measure = Callable[[AnswerRow], float]
Key = Callable[[AnswerRow], str]

_rate: Measure = attrgetter("preferred")
_log_odds: Measure = attrgetter("margin")
_value: Key = attrgetter("value")
_domain: Key = attrgetter("domain")
_pair: Key = attrgetter("id")


def summarise(
    config: ReportConfig,
    answers: Mapping[str, Answers],
    notices: Sequence[str] = (),
    left_out: Sequence[LeftOut] = (),
) -> Results:
    """Rates, log-odds, intervals and contrasts of all cells.

    Args:
        config: the cells, in the order of the conditions.
        answers: by evaluation step; a cell whose step has none is missing.
        notices: of the evaluations.
        left_out: what was left out of the data.

    Raises:
        UserError: two models were asked about different pairs.
    """
    _check_same_pairs(answers)
    groups: dict[Side, list[Cell]] = {}
    for cell in config.cells:
        groups.setdefault(side(cell), []).append(cell)
    conditions = tuple(_condition(cells, answers) for cells in groups.values())
    return Results(
        title=config.title,
        counted=config.counted,
        notices=(*config.notices, *notices),
        left_out=tuple(left_out),
        values=tuple(dict.fromkeys(answer.value for rows in answers.values() for answer in rows)),
        conditions=conditions,
        contrasts=tuple(_contrasts(config.contrasts, conditions, answers)),
        persistence=config.persistence,
        models=config.models,
    )


def _check_same_pairs(answers: Mapping[str, Answers]) -> None:
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


def _condition(cells: Sequence[Cell], answers: Mapping[str, Answers]) -> Condition:
    by_seed = sorted(cells, key=lambda cell: cell.seed)
    results = tuple(
        CellResult(cell, _values([answers[cell.step]] if cell.step in answers else [], clustered=False))
        for cell in by_seed
    )
    pooled = _values([answers[cell.step] for cell in by_seed if cell.step in answers], clustered=True)
    return Condition(*side(by_seed[0]), results, pooled)


def _values(models: Sequence[Answers], clustered: bool) -> tuple[ValueResult, ...]:
    """What models that differ in their seed prefer, for each value; pairs are clustered by domain, or independent."""
    found = []
    for value, of_value in _split(models, _value).items():
        gated = any(map(answers_by_position, of_value))
        domains = sorted(_split(of_value, _domain).items())
        in_domains = tuple(DomainResult(domain, _preference(rows, False, gated)) for domain, rows in domains)
        found.append(ValueResult(value, _preference(of_value, clustered, gated), in_domains))
    return tuple(found)


def answers_by_position(answers: Answers) -> bool:
    """Whether a model that gave ``answers`` on one value names a place, and not an option."""
    return by_position(len(answers), sum(not answer.orders_agree for answer in answers))


def _preference(models: Sequence[Answers], clustered: bool, gated: bool) -> Preference:
    answers = [answer for rows in models for answer in rows]
    rates = _clusters(models, _rate)
    # All seeds are asked the same pairs, so that a second seed adds none.
    distinct = len({answer.id for answer in answers})
    effective_n = effective_size(rates, distinct) if clustered else distinct
    log_odds = _clusters(models, _log_odds, by=_domain if clustered else _pair)
    rate_by_seed, log_odds_by_seed = ([_mean(rows, measure) for rows in models] for measure in (_rate, _log_odds))
    return Preference(
        preferred=sum(answer.preferred for answer in answers),
        n=len(answers),
        effective_n=effective_n,
        orders_agree=sum(answer.orders_agree for answer in answers),
        rate=None
        if gated
        else Estimate(mean(rates), wilson(mean(rates), effective_n), seed_interval(rate_by_seed, 0.0, 1.0)),
        log_odds=Estimate(mean(log_odds), mean_interval(log_odds), seed_interval(log_odds_by_seed)),
    )


def _contrasts(
    arms: Sequence[str], conditions: Sequence[Condition], answers: Mapping[str, Answers]
) -> Iterator[Contrast]:
    """Every two specs of the same model, arm and size, for each of ``arms``, on each value."""
    for first, second in combinations((condition for condition in conditions if condition.arm in arms), 2):
        if (first.model, first.arm, first.size) == (second.model, second.arm, second.size):
            for value in (result.value for result in first.values):
                ordered = (second, first) if second.spec == value else (first, second)
                yield from _compare(value, *ordered, answers)


def _compare(value: str, first: Condition, second: Condition, answers: Mapping[str, Answers]) -> Iterator[Contrast]:
    """The contrast on ``value``, over the seeds that both have; none without such a seed."""
    assert first.spec is not None and second.spec is not None, "an arm of report.contrasts has specs"
    steps, other_steps = (
        {result.cell.seed: result.cell.step for result in condition.cells if not result.missing}
        for condition in (first, second)
    )
    if not (seeds := tuple(sorted(steps.keys() & other_steps.keys()))):
        return
    rows, other_rows = (
        [[answer for answer in answers[of[seed]] if answer.value == value] for seed in seeds]
        for of in (steps, other_steps)
    )
    rates, log_odds = (_differences(rows, other_rows, measure) for measure in (_rate, _log_odds))
    gated = any(map(answers_by_position, (*rows, *other_rows)))
    rate_over_pairs = rate_difference(_clusters(rows, _rate), _clusters(other_rows, _rate))
    log_odds_over_pairs = difference_interval(_clusters(rows, _log_odds), _clusters(other_rows, _log_odds))
    yield Contrast(
        value=value,
        model=first.model,
        arm=first.arm,
        spec=first.spec,
        other_spec=second.spec,
        size=first.size,
        seeds=seeds,
        by_seed=tuple(log_odds),
        rate=None if gated else Estimate(fmean(rates), rate_over_pairs, seed_interval(rates, -1.0, 1.0)),
        log_odds=Estimate(fmean(log_odds), log_odds_over_pairs, seed_interval(log_odds)),
    )


def _differences(models: Sequence[Answers], others: Sequence[Answers], measure: Measure) -> list[float]:
    """The difference of each seed."""
    return [_mean(rows, measure) - _mean(other_rows, measure) for rows, other_rows in zip(models, others, strict=True)]


def _mean(answers: Answers, measure: Measure) -> float:
    return fmean(map(measure, answers))


def _split(models: Sequence[Answers], key: Key) -> dict[str, list[Answers]]:
    """The answers of all models by ``key``, those of each model still by themselves."""
    names = dict.fromkeys(key(answer) for rows in models for answer in rows)
    return {name: [[answer for answer in rows if key(answer) == name] for rows in models] for name in names}


def _clusters(models: Sequence[Answers], measure: Measure, by: Key = _domain) -> list[Cluster]:
    """The sums of ``measure`` in each domain, or ``by`` something else, in the order of their names."""
    sums: dict[str, list[float]] = {}
    for rows in models:
        for answer in rows:
            sums.setdefault(by(answer), []).append(measure(answer))
    return [Cluster(sum(values), len(values)) for _, values in sorted(sums.items())]
