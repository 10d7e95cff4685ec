"""What a result is made of: as a tree, the newest first, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import TypeAdapter
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from msm_hpc.base.text import say
from msm_hpc.campaign.views.trace import Trace, Traced

SHORT = 12
"""Digits of hashes and commits; `--json` has all."""


def as_json(found: Trace) -> str:
    """All that is known, the steps in the order of work."""
    return TypeAdapter(Trace).dump_json(found).decode()


def print_trace(console: Console, found: Trace) -> None:
    """A tree of the steps, each with what it reads below it; what several read is shown in full once."""
    steps = {step.id: step for step in found.steps}
    console.print(_tree(found.target, "", steps, set()))
    hours = sum(step.rank_hours for step in found.steps)
    made = sum(step.lacks is None for step in found.steps)
    say(console, f"{made} of {len(found.steps)} steps are there, {hours:.3f} rank-hours in all attempts at them.")
    say(console, f"Results are in {found.root}/steps/ID/out, of a training in checkpoint/. --json has all hashes.")


def _tree(step_id: str, role: str, steps: dict[str, Traced], shown: set[str]) -> Tree:
    step = steps[step_id]
    title = Text.assemble((f"{role}: " if role else "", "dim"), (step.name, "bold"))
    if step_id in shown:
        return Tree(Text.assemble(title, (" (above)", "dim")))
    shown.add(step_id)
    tree = Tree(Text("\n").join([title, *map(Text, _facts(step, steps))]))
    for each in step.inputs:
        if each.id is not None:
            tree.children.append(_tree(each.id, each.role, steps, shown))
        else:
            tree.add(Text.assemble((f"{each.role}: ", "dim"), f"{each.path}\nsha256 {each.identity[:SHORT]}"))
    return tree


def _facts(step: Traced, steps: dict[str, Traced]) -> Iterator[str]:
    """The id; who made it, from which code; what it is known by."""
    yield step.id
    if step.lacks is not None:
        last = step.attempts[-1].cause or "it runs, or left no record" if step.attempts else ""
        yield step.lacks + (f"; attempts: {len(step.attempts)}, the last: {last}" if step.attempts else "")
    if (maker := step.maker) is not None:
        tries = f", {len(step.attempts)} attempts" if len(step.attempts) > 1 else ""
        ranks = f", {maker.ranks} ranks" if maker.ranks > 1 else ""
        yield f"job {maker.job.id} on {maker.host}{ranks}, {step.rank_hours:.3f} rank-hours{tries}"
        yield f"code {_short(maker.commit) if maker.commit else 'outside of a checkout'}, {maker.start[:16]}"
    if step.shares:
        hours = sum(share.rank_hours for share in _shares(step, steps))
        yield f"gathered of {len(step.shares)} shares, {hours:.3f} rank-hours"
    if step.files:
        name, largest = max(step.files.items(), key=lambda item: item[1].bytes)
        others = f", of {len(step.files)} files" if len(step.files) > 1 else ""
        yield f"{name} sha256 {largest.sha256[:SHORT]}{others}"


def _shares(step: Traced, steps: dict[str, Traced]) -> Iterator[Traced]:
    """What it was gathered from, and what these were."""
    for share in step.shares:
        yield steps[share]
        yield from _shares(steps[share], steps)


def _short(commit: str) -> str:
    name, dash, dirty = commit.partition("-")
    return f"{name[:SHORT]}{dash}{dirty}"
