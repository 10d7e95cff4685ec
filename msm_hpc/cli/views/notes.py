"""Lines beside a table: what should be known and stops nothing."""

from __future__ import annotations

from msm_hpc.campaign.session import Session
from msm_hpc.campaign.starting_model import recipe_note, what_is_missing
from msm_hpc.campaign.views.status import nothing_here


def print_notes(session: Session) -> None:
    """A recipe that is for a toy model, and weights that are still to be downloaded."""
    for config in session.configs:
        notes = (recipe_note(config), what_is_missing(config.model))
        session.say(*(f"Note: {note}" for note in notes if note))


def print_nothing_here(session: Session) -> None:
    """That nothing of the campaign was ever run below this root, where that is so."""
    if said := nothing_here(session.graph, session.store):
        session.say(said)
