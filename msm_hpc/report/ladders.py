"""From measurements to the ladders that conditions make, and how much less data one arm needs than another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msm_hpc.report.efficiency import Ladder, Saved, savings
from msm_hpc.report.metrics import PREFERENCE, better, headlines
from msm_hpc.report.results import Measurement

Rungs = Mapping[int, Mapping[int, float]]
"""Size to seed to what was reached."""


def saved(of: Mapping[str, str], rows: Sequence[Measurement]) -> Iterator[Saved]:
    """How much less data each arm needs than the one that it is compared with, for each spec, by the first metric of
    each eval in which a model can be better.

    Compared are the seeds of which both ladders are whole. Of preferences, a spec whose name is a value's is compared
    by that value only. ``rows`` are the measurements of single models.
    """
    reached = _reached(rows)
    values = {name.removeprefix(PREFERENCE) for name in reached if name.startswith(PREFERENCE)}
    for arm, reference in of.items():
        for model, spec in dict.fromkeys((row.model, row.spec) for row in rows if row.arm == arm):
            for name, ladders in reached.items():
                value = name.removeprefix(PREFERENCE)
                if name.startswith(PREFERENCE) and spec in values and spec != value:
                    continue
                climbed = ladders.get((model, arm, spec), {})
                compared = ladders.get((model, reference, spec)) or ladders.get((model, reference, None), {})
                if (seeds := _whole(climbed) & _whole(compared)) and len(climbed) > 1 < len(compared):
                    both = (_ladder(each, sorted(seeds)) for each in (climbed, compared))
                    yield Saved(value, model, arm, spec, reference, len(seeds), savings(*both))


def _reached(rows: Sequence[Measurement]) -> dict[str, dict[tuple[str, str, str | None], dict[int, dict[int, float]]]]:
    """Eval to model, arm and spec to its ladder, of which more is better."""
    found: dict[str, dict[tuple[str, str, str | None], dict[int, dict[int, float]]]] = {}
    first = headlines((row.eval, row.metric) for row in rows)
    for row in rows:
        judged = first.get(row.eval) == row.metric and row.group is None and better(row.metric)
        if judged and row.size and row.seed is not None and row.mean is not None:
            ladder = found.setdefault(row.eval, {}).setdefault((row.model, row.arm, row.spec), {})
            ladder.setdefault(row.size, {})[row.seed] = better(row.metric) * row.mean
    return found


def _whole(ladder: Rungs) -> set[int]:
    """The seeds that are on every rung."""
    return set.intersection(*(set(seeds) for seeds in ladder.values())) if ladder else set()


def _ladder(ladder: Rungs, seeds: Sequence[int]) -> Ladder:
    sizes = sorted(ladder)
    return Ladder(tuple(sizes), tuple(tuple(ladder[size][seed] for size in sizes) for seed in seeds))
