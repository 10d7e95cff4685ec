"""Why steps will run: each reason, below the steps that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msm_hpc.base.text import say
from msm_hpc.campaign.session import Session
from msm_hpc.cli.views.failures import names_of
from msm_hpc.graph.steps import Step


def print_reasons(session: Session, groups: Mapping[tuple[str, ...], Sequence[Step]]) -> None:
    """Steps with what they share: the reasons why they will run."""
    for reasons, alike in groups.items():
        say(session.console, names_of(alike), style="bold")
        session.say(*(f"  {reason}" for reason in reasons))
    if not groups:
        session.say("Nothing will run: done.")
