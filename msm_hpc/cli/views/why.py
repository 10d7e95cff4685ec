"""Why steps will run: each reason, below the steps that share it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.markup import escape

from msm_hpc.campaign.session import Session
from msm_hpc.graph.steps import Step

NAMES = 4
"""Of steps that share something, named one by one."""


def print_reasons(session: Session, groups: Mapping[tuple[str, ...], Sequence[Step]]) -> None:
    """Steps with what they share: the reasons why they will run."""
    for reasons, alike in groups.items():
        session.console.print(f"[bold]{names_of(alike)}[/]", highlight=False, soft_wrap=True)
        session.say(*(f"  {reason}" for reason in reasons))
    if not groups:
        session.say("Nothing will run: done.")


def names_of(steps: Sequence[Step]) -> str:
    """The step with its id, or how many they are and the first few names."""
    first, *more = steps
    if not more:
        return escape(f"{first.name} ({first.id})")
    names = ", ".join(step.name for step in steps[:NAMES])
    return escape(f"{len(steps)} steps: {names}{' …' if len(steps) > NAMES else ''}")
