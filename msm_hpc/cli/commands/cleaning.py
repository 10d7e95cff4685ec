"""The commands that take away: ``cancel`` jobs, ``gc`` files."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer
from rich.console import Console

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import few, say
from msm_hpc.campaign.cancelling import cancellation
from msm_hpc.campaign.garbage import Findings, find_garbage
from msm_hpc.cli.arguments import Arguments, ConfigDir, RootArguments, sort_arguments
from msm_hpc.cli.terminal import terminal
from msm_hpc.cli.views.cancel import print_cancellation
from msm_hpc.cli.views.gc import garbage_table, size
from msm_hpc.config.compose import root_of
from msm_hpc.store.campaigns import campaigns
from msm_hpc.store.lock import submission_lock
from msm_hpc.store.store import Store
from msm_hpc.store.trash import Trash

DAYS = 7.0
"""A result that a change has replaced is often wanted again within days."""


def cancel(
    arguments: Arguments = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Also jobs that another campaign waits for.")] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Stop all jobs of a campaign; `msm run` continues it."""
    session = sort_arguments(arguments).session(config_dir, named=True)
    name, graph, store = session.config.campaign.name, session.graph, session.store
    found = cancellation(name, graph, store, shared)
    print_cancellation(session, found)
    if not found.jobs:
        session.say(f"Nothing of {name} that you may cancel is queued or running below {store.root}.")
        return 0
    if not (yes or _confirmed(f"Cancel these {len(found.jobs)} jobs?")):
        session.say("Nothing was cancelled.")
        return 1
    with submission_lock(store.root, session.say):  # so that a run that is submitting has submitted all
        found = cancellation(name, graph, store, shared)
        found.carry_out()
    again = f"`msm run {name} root={session.config.root}`"
    session.say(f"Cancelled {len(found.jobs)} jobs. Trainings save before they end, and {again} continues.")
    return 0


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("there is no terminal to ask on, so nothing was done: add --yes to do it without asking")
    return typer.confirm(question)


def gc(
    arguments: RootArguments = None,
    days: Annotated[float, typer.Option(min=0, metavar="N", help="Keep what is newer than that.")] = DAYS,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it.")] = False,
) -> int:
    """Show what no campaign needs any more; with --yes, delete it."""
    given = sort_arguments(arguments)
    if given.name or any(not each.startswith("root=") for each in given.overrides):
        raise UserError("gc looks at all campaigns below a root: give root=FOLDER alone")
    root, console = root_of(given.overrides), terminal()
    store = Store(root.resolve())
    found = find_garbage(store, days)
    _print_garbage(console, found, store, days)
    if found.garbage and yes:
        _delete(console, store, days)
    elif found.garbage:
        say(console, f"Nothing was deleted yet: `msm gc root={root} --days {days:g} --yes` does.")
    return 0


def _delete(console: Console, store: Store, days: float) -> None:
    """Move what is found to be garbage now aside, and delete it."""
    trash = Trash(store.root)
    with submission_lock(store.root, lambda line: say(console, line)):  # so that no run begins on what is deleted
        garbage = [each for each in find_garbage(store, days).garbage if each.path.parent != trash.folder]
        kept = [each for each in garbage if not trash.take(each.path)]
    if not trash.empty():
        say(console, f"Not all could be deleted; what is left in {trash.folder} is of another user, who can.")
    if kept:
        say(console, f"You may not delete {few([each.owner for each in kept])}: let their owner run `msm gc`.")
    say(console, f"Deleted; {size(shutil.disk_usage(store.root).free)} are free now.")


def _print_garbage(console: Console, found: Findings, store: Store, days: float) -> None:
    known = few(campaigns(store.root))
    if found.garbage:
        say(console, f"Below {store.root} no campaign ({known}) needs:")
        garbage_table(found, store).print(console)
        say(console, f"{size(found.bytes)} in all.")
    else:
        say(console, f"Below {store.root} there is nothing that no campaign ({known}) needs.")
    if found.newer:
        say(
            console,
            f"{len(found.newer)} more steps are of no campaign, but newer than {days:g} days: --days 0 has them, too.",
        )
    if found.held:
        say(console, f"{len(found.held)} more steps are of no campaign, but jobs make them or read them.")
