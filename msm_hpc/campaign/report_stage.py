"""The report stage in a campaign: ``msm_hpc.report.stage.run``, with what only the store knows.

That is what the steps behind the report took, as far as their attempts say, and where the pages of audits lie.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from msm_hpc.campaign.views.ledger import REASONS, SEVERAL, Ledger, ledger, tries_at
from msm_hpc.config.stages import Audited, Hours, ReportConfig, ReportInputs
from msm_hpc.store.folder import StepFolder
from msm_hpc.store.store import Store

AUDIT_PAGE = "corpus.html"


def run(config: ReportConfig, inputs: ReportInputs, out: Path) -> None:
    """Write the report in a job; see :func:`msm_hpc.report.stage.run`."""
    from msm_hpc.report.stage import run as write

    found = [*inputs.evaluations.values(), *inputs.packed.values(), *inputs.audits.values()]
    if found:
        config = replace(config, hours=_hours_behind(config, Store(StepFolder(found[0].parent).root)))
    write(replace(config, audited=linked(config.audited, inputs, _published(out))), inputs, out)


def linked(audited: Sequence[Audited], inputs: ReportInputs, page: Path) -> tuple[Audited, ...]:
    """The audits with the links that a page in the folder ``page`` needs; none to what is not there."""
    return tuple(
        replace(each, page=os.path.relpath(inputs.audits[each.step] / AUDIT_PAGE, page))
        if each.step in inputs.audits
        else each
        for each in audited
    )


def hours(spent: Ledger, by_arm: Mapping[str, Sequence[str]]) -> Hours | None:
    """A table of hours, ``by_arm`` being the ids of steps; None where nothing was spent."""
    rows: dict[str, dict[str, float]] = {
        arm: {reason: taken for reason in REASONS if (taken := spent.hours([reason], ids))}
        for arm, ids in by_arm.items()
    }
    rows = {arm: row for arm, row in rows.items() if row}
    return Hours(unit=spent.unit, by_arm=rows) if rows else None


def _published(out: Path) -> Path:
    """Where the output of an attempt will lie; other folders stay where they are."""
    return StepFolder(out.parents[2]).out if out.parents[1].name == "attempts" else out


def _hours_behind(config: ReportConfig, store: Store) -> Hours | None:
    """What the steps took that the report is made of, whether or not it has their results."""
    behind, arms = _Behind(store), dict[str, set[str]]()
    for cell in config.cells:
        for step_id in behind.all_of(filter(None, (cell.step, *cell.evals.values()))):
            arms.setdefault(step_id, set()).add(cell.arm)
    for step_id in behind.all_of([*(each.step for each in config.audited), *(each.step for each in config.packed)]):
        arms.setdefault(step_id, set())
    by_arm: dict[str, list[str]] = defaultdict(list)
    for step_id, of in arms.items():
        by_arm[next(iter(of)) if len(of) == 1 else SEVERAL].append(step_id)
    tries = tries_at(map(store.folder, arms))
    on_gpus = any(each.record.allocation and each.record.allocation.gpus for tried in tries for each in tried)
    return hours(ledger(tries, on_gpus), by_arm)


@dataclass(frozen=True)
class _Behind:
    """What steps are made of, by the records in a store; each record is read once."""

    store: Store
    known: dict[str, Set[str]] = field(default_factory=dict)

    def all_of(self, step_ids: Iterable[str]) -> Set[str]:
        """These steps, and all behind them."""
        return set[str]().union(*map(self._with_itself, step_ids))

    def _with_itself(self, step_id: str) -> Set[str]:
        if step_id not in self.known:
            self.known[step_id] = {step_id, *self.all_of(self._reads(step_id))}
        return self.known[step_id]

    def _reads(self, step_id: str) -> Iterator[str]:
        if record := self.store.folder(step_id).record:
            yield from record.reads
