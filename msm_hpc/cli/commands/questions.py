"""The commands that ask: ``status``, ``logs``, ``why``, ``report``. They answer whatever is missing on this machine."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from msm_hpc.campaign.accounts import accounts
from msm_hpc.campaign.session import Session
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import failed, statuses
from msm_hpc.campaign.views.trace import target
from msm_hpc.campaign.views.trace import trace as traced
from msm_hpc.campaign.views.why import grouped
from msm_hpc.campaign.views.why import why as reasons_of
from msm_hpc.cli.arguments import (
    Arguments,
    CellArguments,
    ConfigDir,
    OptionalStepArguments,
    StepArguments,
    sort_arguments,
)
from msm_hpc.cli.live import watch
from msm_hpc.cli.views.failures import print_failures
from msm_hpc.cli.views.ledger import spent_lines
from msm_hpc.cli.views.logs import follow_log, print_log
from msm_hpc.cli.views.notes import print_bad_nodes, print_nothing_here
from msm_hpc.cli.views.report import print_report
from msm_hpc.cli.views.status import print_notes_on, status_table
from msm_hpc.cli.views.trace import as_json, print_trace
from msm_hpc.cli.views.triage import print_triage
from msm_hpc.cli.views.why import print_reasons
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store


def status(
    arguments: Arguments = None,
    watching: Annotated[bool, typer.Option("--watch", help="Again and again, until all is done or Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="With --watch: between two looks.")] = 10,
    config_dir: ConfigDir = None,
) -> int:
    """Show where each stage stands, what failed and why."""
    session = sort_arguments(arguments).session(config_dir)
    if watching:
        watch(session.console, every, lambda page: _print_status(session.printing_on(page)))
    else:
        _print_status(session.asking())
    return 0


def _print_status(session: Session) -> bool:
    """Print where the campaign stands; whether a step is left that is not done."""
    graph, before = session.graph, session.store
    print_nothing_here(session)
    jobs = holders(graph.needed(before.done), before)
    session = session.asking()  # after the queue, so that what a job has just made counts as done
    store = session.store
    found = statuses(graph, store, jobs)
    known = accounts(session, ends=jobs.ends)
    status_table(graph, found, known.spent).print(session.console)
    session.say(f"in {store.root}", *spent_lines(known.spent, graph, known.left))
    print_notes_on(session.console, found, store)
    print_bad_nodes(session)
    print_failures(session.console, failed(found), store.root)
    return any(status.state not in ("done", "not needed") for status in found)


def logs(
    arguments: StepArguments = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Print what is added, until the step ends.")] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Print the log of a step's last attempt, below what ended it."""
    given = sort_arguments(arguments, "step")
    session = given.session(config_dir)
    step = session.graph.find(str(given.step))
    if not follow:
        print_log(session, step)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        follow_log(session, step)
    return 0


def triage(arguments: OptionalStepArguments = None, config_dir: ConfigDir = None) -> int:
    """Say of failed steps which rank failed first, where and why."""
    given = sort_arguments(arguments, "step", required=False)
    session = given.session(config_dir)
    graph, store = session.graph, session.asking().store
    if given.step:
        step = graph.find(given.step)
        jobs = holders([step], store)
        end = None if jobs.alive(step) or store.done(step) else ended(step, store, jobs)
        ends, nothing = [end] if end else [], f"{step.name} {jobs.in_words(step) or _untried(step, store)}."
    else:
        jobs = holders(graph.needed(store.done), store)
        ends, nothing = failed(statuses(graph, session.asking().store, jobs)), "No step has failed."
    print_triage(session.console, ends, store)
    session.say(*([] if ends else [nothing]))
    return 0


def _untried(step: Step, store: Store) -> str:
    return "is done" if store.done(step) else "was never tried"


def why(arguments: OptionalStepArguments = None, config_dir: ConfigDir = None) -> int:
    """Say which field makes a step run again."""
    given = sort_arguments(arguments, "step", required=False)
    session = given.session(config_dir)
    session = session.asking()
    graph, store = session.graph, session.store
    if given.step:
        step = graph.find(given.step)
        reasons = reasons_of(step, graph, store)
        print_reasons(session, {tuple(reasons): [step]} if reasons else {})
    else:
        print_reasons(session, grouped(graph, store))
    return 0


def report(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Print the results so far and write the HTML report."""
    return print_report(sort_arguments(arguments).session(config_dir))


def trace(
    arguments: CellArguments = None,
    json: Annotated[bool, typer.Option("--json", help="All that is known, as JSON.")] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Show what a result is made of: data, code, jobs."""
    given = sort_arguments(arguments, "cell")
    session = given.session(config_dir)
    cell, step = target(session.graph, str(given.step))
    found = traced(session.config.campaign.name, cell, step, session.store)
    if json:
        session.console.print_json(as_json(found))
    else:
        print_trace(session.console, found)
    return 0
