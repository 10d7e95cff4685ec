"""From the conditions to the ladders that they make, and how much less data one arm needs than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msm_hpc.report.efficiency import Ladder, Saved, savings
from msm_hpc.report.results import Condition


def saved(of: Mapping[str, str], conditions: Sequence[Condition]) -> Iterator[Saved]:
    """How much less data each arm needs than the one that it is compared with, for each spec and its value.

    Compared are the log-odds, on the seeds of which both ladders are whole. A spec whose name is no value's is asked
    about with every value.
    """
    for arm, reference in of.items():
        for model, spec in dict.fromkeys((each.model, each.spec) for each in conditions if each.arm == arm):
            climbed = _ladder(conditions, model, arm, spec)
            compared = _ladder(conditions, model, reference, spec) or _ladder(conditions, model, reference, None)
            values = dict.fromkeys(result.value for each in (*climbed, *compared) for result in each.values)
            for value in [spec] if spec in values else values:
                assert value is not None
                if (seeds := _whole(climbed, value) & _whole(compared, value)) and len(climbed) > 1 < len(compared):
                    both = (_values(each, value, sorted(seeds)) for each in (climbed, compared))
                    yield Saved(value, model, arm, spec, reference, len(seeds), savings(*both))


def _ladder(conditions: Sequence[Condition], model: str, arm: str, spec: str | None) -> list[Condition]:
    """The conditions of an arm that have a size, the smallest first."""
    sized = [each for each in conditions if (each.model, each.arm, each.spec) == (model, arm, spec) and each.size]
    return sorted(sized, key=lambda each: each.size or 0)


def _whole(ladder: Sequence[Condition], value: str) -> set[int]:
    """The seeds that were asked about ``value`` on every rung."""
    rungs = [{cell.cell.seed for cell in each.cells if cell.preference(value)} for each in ladder]
    return set.intersection(*rungs) if rungs else set()


def _values(ladder: Sequence[Condition], value: str, seeds: Sequence[int]) -> Ladder:
    by_rung = [{cell.cell.seed: cell.preference(value) for cell in each.cells} for each in ladder]
    found = [[rung[seed] for rung in by_rung] for seed in seeds]
    return Ladder(
        tuple(each.size or 0 for each in ladder),
        tuple(tuple(each.log_odds.mean for each in row if each) for row in found),
    )
