"""The ``eval`` stage: ask a model every pair, write one answer a pair and the rates.

Reads ``inputs["model"]`` (a Hugging Face folder) and ``inputs["pairs/<value>"]`` (folders with ``pairs.jsonl``). Writes
``answers.jsonl`` (:class:`~msm_hpc.evals.preference.Answer`, in input order) and ``summary.json``
(a list of :class:`ValueRate`). Intervals are the report's work: they need more than one model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from msm_hpc.config import EvalConfig
from msm_hpc.errors import UserError
from msm_hpc.evals.pairs import Pair, check_slots, read_pairs
from msm_hpc.evals.preference import TEXTS_PER_PAIR, Answer, Judge
from msm_hpc.files import write_json, write_jsonl
from msm_hpc.progress import ProgressFile


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``preferred`` of ``n`` pairs favour the target.

    ``order_consistency`` is the fraction of pairs whose two orders agree on the preferred option.
    """

    n: int
    preferred: int
    rate: float
    order_consistency: float


@dataclass(frozen=True, kw_only=True)
class DomainRate(Rate):
    """The rate of one domain's pairs."""

    domain: str


@dataclass(frozen=True, kw_only=True)
class ValueRate(Rate):
    """The rate of all pairs of one value, and of each of their domains."""

    value: str
    domains: tuple[DomainRate, ...]


def run(config: EvalConfig, inputs: Mapping[str, Path], out: Path) -> None:
    """Evaluate ``inputs["model"]`` on every ``inputs["pairs/…"]`` and write the results into ``out``.

    Raises:
        UserError: the configuration, the model or a pairs file is wrong.
    """
    check_slots(config.answer, {"item"}, "eval.answer")
    if config.batch_size < TEXTS_PER_PAIR:
        raise UserError(f"eval.batch_size is {config.batch_size}: a pair is {TEXTS_PER_PAIR} texts, give at least that")
    pairs = _all_pairs(inputs)
    judge = Judge(inputs["model"], config.answer)
    progress = ProgressFile(out, total=len(pairs), unit="pairs")
    pairs_per_batch = config.batch_size // TEXTS_PER_PAIR
    answers: list[Answer] = []
    for start in range(0, len(pairs), pairs_per_batch):
        answers += judge.ask(pairs[start : start + pairs_per_batch])
        _check_finite(answers[start:], inputs["model"])
        progress.update(len(answers))
    write_jsonl(out / "answers.jsonl", map(asdict, answers))
    write_json(out / "summary.json", [asdict(rate) for rate in summarise(answers)])


def summarise(answers: Sequence[Answer]) -> list[ValueRate]:
    """One rate a value, in order of first appearance."""
    return [
        ValueRate(value=value, domains=_domain_rates(of_value), **asdict(_rate(of_value)))
        for value, of_value in _grouped(answers, lambda answer: answer.value)
    ]


def _domain_rates(answers: Sequence[Answer]) -> tuple[DomainRate, ...]:
    groups = _grouped(answers, lambda answer: answer.domain)
    return tuple(DomainRate(domain=domain, **asdict(_rate(of_domain))) for domain, of_domain in groups)


def _grouped(answers: Sequence[Answer], key: Callable[[Answer], str]) -> list[tuple[str, list[Answer]]]:
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(key(answer), []).append(answer)
    return list(groups.items())


def _all_pairs(inputs: Mapping[str, Path]) -> list[Pair]:
    roles = [role for role in inputs if role.startswith("pairs/")]
    if not roles:
        raise UserError("the eval stage was given no pairs: it needs an input pairs/VALUE for each value to evaluate")
    return [pair for role in roles for pair in read_pairs(inputs[role])]


def _check_finite(answers: Sequence[Answer], model: Path) -> None:
    for answer in answers:
        if not math.isfinite(answer.margin):
            raise UserError(f"{model}: the log-probabilities of pair {answer.id!r} are not finite: the model is broken")


def _rate(answers: Sequence[Answer]) -> Rate:
    n = len(answers)
    preferred = sum(answer.preferred for answer in answers)
    consistent = sum((answer.margin_forward > 0) == (answer.margin_backward > 0) for answer in answers)
    return Rate(n=n, preferred=preferred, rate=preferred / n, order_consistency=consistent / n)
