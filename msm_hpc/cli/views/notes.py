"""Lines beside a table: what should be known and stops nothing."""

from __future__ import annotations

import shlex
import time

from msm_hpc.campaign.session import Session
from msm_hpc.campaign.starting_model import recipe_note, what_is_missing
from msm_hpc.campaign.views.status import nothing_here
from msm_hpc.config.campaign import Config
from msm_hpc.store.bad_nodes import bad_nodes, file_of


def print_notes(session: Session) -> None:
    """A recipe for a toy model, toy corpora beside the user's own, unlisted arms, weights still to be downloaded."""
    for config in session.configs:
        unlisted = _unlisted(session, config)
        session.say(*(f"Note: {note}" for note in (recipe_note(config), _mixed(config), unlisted) if note))
    if missing := what_is_missing(config.model for config in session.configs):
        session.say(f"Note: {missing}")


def _mixed(config: Config) -> str | None:
    """Which sources the toy generator makes, where the user gives others."""
    if config.generate.generator != "offline_toy":
        return None
    given = {name: any(map(config.own_file, config.corpora(name))) for name in sorted(config.sources_used)}
    toy = [name for name, own in given.items() if not own]
    if not toy or len(toy) == len(given):
        return None
    return (
        f"beside your own corpora the toy generator makes {', '.join(toy)}; name files of yours (such as "
        f"{config.corpora(toy[0])[0].key}=FILE.jsonl), or leave that out of the arms"
    )


def _unlisted(session: Session, config: Config) -> str | None:
    """Which arms were given on the command line and are not run."""
    keys = (override.partition("=")[0].lstrip("+") for override in session.overrides)
    given = [key.removeprefix("arms.") for key in keys if key.startswith("arms.")]
    unlisted = [arm for arm in given if arm in config.arms and arm not in config.campaign.arms]
    if not unlisted:
        return None
    arms = ",".join([*config.campaign.arms, *unlisted])
    return f"campaign.arms does not list {', '.join(unlisted)}, so that it is not run; 'campaign.arms=[{arms}]' does"


def print_bad_nodes(session: Session) -> None:
    """The nodes that jobs leave out, each with the reason, for how long, and how to use it again."""
    root = session.store.root
    for node in bad_nodes(root):
        hours = (node.until - time.time()) / 3600
        session.say(
            f"Note: jobs leave out node {node.name} for {hours:.0f} h: {node.reason}. To use it again: "
            f"`rm {shlex.quote(str(file_of(root, node.name)))}`"
        )


def print_nothing_here(session: Session) -> None:
    """That nothing of the campaign was ever run below this root, where that is so."""
    if said := nothing_here(session.graph, session.store):
        session.say(said)
