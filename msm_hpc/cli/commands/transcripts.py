"""``msm transcripts``: what models replied, as logs that `inspect view` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from msm_hpc.base.errors import UserError
from msm_hpc.base.text import say
from msm_hpc.campaign.session import Session
from msm_hpc.cli.arguments import ConfigDir, OptionalStepArguments, sort_arguments
from msm_hpc.graph.steps import Step


def transcripts(
    arguments: OptionalStepArguments = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where they are written.")] = Path("transcripts"),
    config_dir: ConfigDir = None,
) -> int:
    """Write replies and their scores for `inspect view`."""
    given = sort_arguments(arguments, "step", required=False)
    session = given.session(config_dir)
    for step in _scored(session, given.step):
        _write(session, step, out)
    say(session.console, f"To read them: inspect view --log-dir {out}")
    return 0


def _scored(session: Session, name: str | None) -> list[Step]:
    """The score step of this name, or all that are done.

    Raises:
        UserError: it is none, is not done, or none is.
    """
    if name is not None:
        step = session.graph.find(name)
        if step.kind != "score":
            raise UserError(f"{step.name} scores no replies: give a step whose name begins with score/")
        if not session.store.done(step):
            raise UserError(f"{step.name} is not done, so that it has no scores yet; `msm status` says why")
        return [step]
    found = [step for step in session.graph.steps if step.kind == "score" and session.store.done(step)]
    if not found:
        raise UserError(
            f"below {session.store.root} no replies of this campaign are scored; name evals in campaign.evals"
        )
    return found


def _write(session: Session, step: Step, out: Path) -> None:
    from msm_hpc.evals.inspect_log import write_log  # here, since no other command needs it

    replies = step.inputs["replies"]
    assert isinstance(replies, Step)
    file = out / f"{step.label.replace('/', '_')}.eval"
    folders = (session.store.of(replies).out, session.store.of(step).out)
    count = write_log(*folders, file, step.config.eval, step.label.rpartition("/")[0])
    say(session.console, f"{file}: {count} transcripts")
