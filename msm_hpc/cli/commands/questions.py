"""The commands that ask: ``status``, ``logs``, ``why``, ``report``. They answer whatever is missing on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import statuses
from msm_hpc.campaign.views.why import grouped
from msm_hpc.campaign.views.why import why as reasons_of
from msm_hpc.cli.arguments import Arguments, ConfigDir, OptionalStepArguments, StepArguments, sort_arguments
from msm_hpc.cli.views.failures import print_failures
from msm_hpc.cli.views.notes import print_nothing_here
from msm_hpc.cli.views.report import print_report
from msm_hpc.cli.views.status import status_table
from msm_hpc.cli.views.why import print_reasons


def status(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Show where each stage stands, what failed and why."""
    session = sort_arguments(arguments).session(config_dir)
    print_nothing_here(session)
    jobs = holders(session.graph.needed(session.store.done), session.store)
    found = statuses(session.graph, session.store, jobs)
    session.console.print(status_table(session.graph, found))
    session.say(f"in {session.store.root}")
    for step in session.graph.needed(session.store.done):
        if damage := session.store.of(step).damage():
            session.say(f"{step.name}: {damage}; `msm run` makes it again")
    if jobs.doubt:
        session.say(f"Shown as active is every step that a job holds: {jobs.doubt}")
    failed = [status.step for status in found if status.state in ("failed", "lost")]
    print_failures(session.console, failed, session.store)
    return 0


def logs(arguments: StepArguments = None, config_dir: ConfigDir = None) -> int:
    """Print the log of a step's last attempt."""
    given = sort_arguments(arguments, "step")
    session = given.session(config_dir)
    step = session.graph.find(str(given.step))
    found = [attempt.log for attempt in session.store.of(step).attempts() if Path(attempt.log).is_file()]
    if not found:
        raise UserError(f"{step.name} has no log: no job of `msm run` has tried it yet")
    sys.stdout.write(Path(found[-1]).read_text(encoding="utf-8", errors="replace"))
    return 0


def why(arguments: OptionalStepArguments = None, config_dir: ConfigDir = None) -> int:
    """Say which field makes a step run again."""
    given = sort_arguments(arguments, "step", required=False)
    session = given.session(config_dir)
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
