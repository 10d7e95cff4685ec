"""The commands that ask: ``status``, ``logs``, ``why``, ``report``. They answer whatever is missing on this machine."""

from __future__ import annotations

from msm_hpc.campaign.views.jobs import holders
from msm_hpc.campaign.views.status import statuses
from msm_hpc.campaign.views.why import grouped
from msm_hpc.campaign.views.why import why as reasons_of
from msm_hpc.cli.arguments import Arguments, ConfigDir, OptionalStepArguments, StepArguments, sort_arguments
from msm_hpc.cli.views.failures import print_failures
from msm_hpc.cli.views.logs import print_log
from msm_hpc.cli.views.notes import print_bad_nodes, print_nothing_here
from msm_hpc.cli.views.report import print_report
from msm_hpc.cli.views.status import print_notes_on, status_table
from msm_hpc.cli.views.why import print_reasons


def status(arguments: Arguments = None, config_dir: ConfigDir = None) -> int:
    """Show where each stage stands, what failed and why."""
    session = sort_arguments(arguments).session(config_dir)
    graph, store = session.graph, session.store
    print_nothing_here(session)
    found = statuses(graph, store, holders(graph.needed(store.done), store))
    status_table(graph, found).print(session.console)
    session.say(f"in {store.root}")
    print_notes_on(session.console, found, store)
    print_bad_nodes(session)
    failed = [status.end for status in found if status.state in ("failed", "lost") and status.end]
    print_failures(session.console, failed, store.root)
    return 0


def logs(arguments: StepArguments = None, config_dir: ConfigDir = None) -> int:
    """Print the log of a step's last attempt, below what ended it."""
    given = sort_arguments(arguments, "step")
    session = given.session(config_dir)
    print_log(session, session.graph.find(str(given.step)))
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
