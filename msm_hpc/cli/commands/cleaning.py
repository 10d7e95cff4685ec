"""The commands that take away: ``cancel`` jobs, ``gc`` files."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.campaign.cancelling import cancellation
from msm_hpc.cli.arguments import Arguments, ConfigDir, sort_arguments
from msm_hpc.cli.views.cancel import print_cancellation
from msm_hpc.store.lock import submission_lock

Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def cancel(
    arguments: Arguments = None,
    yes: Yes = False,
    shared: Annotated[bool, typer.Option("--shared", help="Also jobs that another campaign waits for.")] = False,
    config_dir: ConfigDir = None,
) -> int:
    """Stop all queued and running jobs of a campaign; `msm run` continues it."""
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
