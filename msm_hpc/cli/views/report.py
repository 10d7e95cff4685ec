"""The results so far: a table here, and the HTML report by its path."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from msm_hpc.base.files import CANNOT_WRITE
from msm_hpc.campaign.report_stage import hours, linked
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.absent import why_absent
from msm_hpc.campaign.views.ledger import Ledger, ledger, steps_by_arm, tries_at
from msm_hpc.campaign.views.left_out import left_out
from msm_hpc.cli.views.ledger import arm_line, spent_lines
from msm_hpc.cli.views.notes import print_nothing_here
from msm_hpc.config.stages import ReportConfig, ReportInputs
from msm_hpc.graph.steps import Origin, Step
from msm_hpc.store.store import Store


def print_report(session: Session) -> int:
    """Print the results table and the path of the HTML report; what is missing is shown as missing.

    Where nothing can be written below the root, the table is all there is.
    """
    step, store = session.graph.report, session.store
    if step is None:
        session.say("This campaign measures nothing (campaign.values is empty): there is no report.")
        return 0
    print_nothing_here(session)
    if store.done(step):
        _print_written(session, store.of(step).out)
        _print_spent(session)
        return 0
    found = ReportInputs(**{role: _done(given, store) for role, given in step.inputs.items()})
    config = replace(step.config, why_absent=why_absent(session.graph, store))
    config = replace(config, hours=hours(_spent(session), steps_by_arm(session.graph)))
    try:
        out = store.unfinished(step.name)
        _render(replace(config, audited=linked(config.audited, found, out)), found, out)
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        _print_unwritten(session, config, found, f"{error.strerror}: {error.filename or out}")
    else:
        _print_written(session, out)
    _print_spent(session)
    return 0


def _render(config: ReportConfig, found: ReportInputs, out: Path) -> None:
    from msm_hpc.report.stage import run

    out.mkdir(parents=True, exist_ok=True)
    run(config, found, out)


def _print_written(session: Session, out: Path) -> None:
    _print_table(session, out)
    session.say(f"Report: {out / 'report.html'}")


def _print_unwritten(session: Session, config: ReportConfig, found: ReportInputs, why: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _render(config, found, Path(folder))
        _print_table(session, Path(folder))
    session.say(f"The HTML report was not written: {why}; free space or fix the permissions there, and ask again")


def _print_spent(session: Session) -> None:
    """What the campaign took so far; the page says what it had taken when it was written."""
    spent = _spent(session)
    session.say(*spent_lines(spent, session.graph), *arm_line(spent, session.graph))


def _spent(session: Session) -> Ledger:
    tries = tries_at(session.store.having("attempts", session.graph.steps).values())
    return ledger(tries, session.config.cluster.trains_on_gpus)


def _print_table(session: Session, out: Path) -> None:
    from msm_hpc.cli.views.results import print_results
    from msm_hpc.report.results import load_results

    results = load_results(out)
    print_results(session.console, results)
    session.say(*(f"Note: {line}" for line in left_out(results, session.graph, session.store)))


def _done(given: Origin | Mapping[str, Origin], store: Store) -> Mapping[str, Path]:
    """The output folders, by id, of those steps that are done."""
    assert isinstance(given, Mapping)
    return {name: store.of(each).out for name, each in given.items() if isinstance(each, Step) and store.done(each)}
