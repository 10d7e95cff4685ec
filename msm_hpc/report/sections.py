"""The evals as page and terminal show them: a section an eval, its conditions in the order of all tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from msm_hpc.report.heat import HeatMap, heat_maps
from msm_hpc.report.metrics import PREFERENCE, family, headlines, named
from msm_hpc.report.paper import PaperNumber, in_paper
from msm_hpc.report.results import Absent, Condition, Measurement, Results, Side, side


@dataclass(frozen=True)
class EvalRow:
    """A condition by one eval: its measurements by metric, and what is not there and why."""

    condition: Condition
    by_metric: Mapping[str, Measurement]
    absent: tuple[Absent, ...]
    paper: tuple[PaperNumber, ...]

    def missing(self, metric: str) -> str:
        """How many samples have no value of ``metric``, and why."""
        return _reasons(self.by_metric[metric]) if metric in self.by_metric else ""

    def most_missing(self, metric: str) -> str:
        """The same, and of that metric of which the most have none, if these are more."""
        most = max(self.by_metric.values(), key=_lost)
        first = self.by_metric.get(metric)
        others = f"{named(most.metric)}: {_reasons(most)}" if _lost(most) > (_lost(first) if first else 0) else ""
        return "; ".join(filter(None, (self.missing(metric), others)))

    @property
    def why(self) -> str:
        """Why there is nothing, or less than there should be."""
        return "; ".join(dict.fromkeys(each.why for each in self.absent))


def _lost(row: Measurement) -> int:
    return row.asked - row.n


def _reasons(row: Measurement) -> str:
    return ", ".join(f"{count:,} {named(reason)}" for reason, count in row.missing.items())


@dataclass(frozen=True)
class Section:
    """One eval.

    Attributes:
        metrics: the one that it is judged by first.
        families: of an eval whose metrics are of families, which are shown as bars, the metrics of each.
        maps: heat maps, of the first metric first.
    """

    eval: str
    metrics: tuple[str, ...]
    families: tuple[tuple[str, tuple[str, ...]], ...]
    rows: tuple[EvalRow, ...]
    maps: tuple[HeatMap, ...]


def sections(results: Results) -> list[Section]:
    """All evals but preferences by log-probability, those of which nothing is there last."""
    by_eval: dict[str, list[Measurement]] = {}
    for row in results.measured:
        if not row.eval.startswith(PREFERENCE):
            by_eval.setdefault(row.eval, []).append(row)
    for each in results.absent:
        if each.eval:
            by_eval.setdefault(each.eval, [])
    return [_section(results, name, rows) for name, rows in by_eval.items()]


def prefers(results: Results) -> bool:
    """Whether the models are asked for preferences by log-probability, or nothing at all is known of them."""
    return any(cell.cell.step for cell in results.cells) or not sections(results)


def sizes_of(results: Results) -> Mapping[tuple[str, str, str | None], int]:
    """How many sizes there are of a model, arm and spec."""
    return Counter(side(each)[:3] for each in results.conditions)


def _section(results: Results, name: str, rows: Sequence[Measurement]) -> Section:
    by_metric: dict[str, list[Measurement]] = {}
    for row in rows:
        by_metric.setdefault(row.metric, []).append(row)
    judged = headlines((name, metric) for metric in by_metric).get(name)
    metrics = sorted(by_metric, key=lambda metric: metric != judged)
    return Section(
        name,
        tuple(metrics),
        _families(metrics) if metrics and judged is None else (),
        tuple(_rows(results, name, rows, judged or "")),
        tuple(drawn for metric in metrics if judged for drawn in heat_maps(results, by_metric[metric])),
    )


def _families(metrics: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Metrics by what their names have before a slash, the families by the alphabet."""
    return tuple((name, tuple(of)) for name, of in groupby(sorted(metrics, key=family), key=family))


def _rows(results: Results, name: str, rows: Sequence[Measurement], first: str) -> list[EvalRow]:
    totals: dict[Side, dict[str, Measurement]] = {}
    for row in rows:
        if row.group is None:
            totals.setdefault(side(row), {})[row.metric] = row
    absent: dict[Side, list[Absent]] = {}
    for each in results.absent:
        if each.eval == name:
            absent.setdefault(side(each.cell), []).append(each)
    sizes = sizes_of(results)
    found = []
    for condition in results.conditions:
        of = side(condition)
        if of in totals or of in absent:
            paper = in_paper(*of[:3], name, first) if sizes[of[:3]] == 1 else ()
            found.append(EvalRow(condition, totals.get(of, {}), tuple(absent.get(of, ())), paper))
    return found
