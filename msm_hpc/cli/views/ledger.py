"""Hours spent and left, in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msm_hpc.campaign.outlook import Outlook
from msm_hpc.campaign.preflight.disk import in_words
from msm_hpc.campaign.views.ledger import REASONS, Ledger, steps_by_arm
from msm_hpc.config.cluster import Cluster
from msm_hpc.graph.build import Graph
from msm_hpc.launch.launcher import launcher_of


def spent_lines(spent: Ledger, graph: Graph, left: Outlook | None = None) -> Iterator[str]:
    """What the campaign's steps took so far, by reason, and what is left by forecast."""
    ids = graph.ids
    parts = ", ".join(f"{reason} {in_hours(hours)}" for reason in REASONS if (hours := spent.hours([reason], ids)))
    if not parts:
        return
    yield f"{spent.unit}: {in_hours(spent.hours(steps=ids))} spent ({parts})"
    if left and left.steps:
        known = in_hours(left.hours) if left.seconds else "not known yet"
        yield f"{left.unit} left by forecast: {known}{_without(left.unknown) if left.seconds else ''}"


def arm_line(spent: Ledger, graph: Graph) -> Iterator[str]:
    """What the steps took that one arm alone needs, and those that several arms share."""
    taken = {arm: spent.hours(steps=ids) for arm, ids in steps_by_arm(graph).items()}
    if parts := [f"{arm} {in_hours(hours)}" for arm, hours in taken.items() if hours]:
        yield f"{spent.unit} by arm: {', '.join(parts)}"


def outlook_line(left: Outlook, still_written: int, cluster: Cluster) -> str:
    """What is left of a campaign, in one line."""
    on_slurm = f"cluster.nodes={cluster.nodes} and cluster.array_parallelism={cluster.array_parallelism}"
    limits = on_slurm if launcher_of(cluster).queues else f"cluster.slots={cluster.slots}"
    disk = f"{in_words(still_written)} of disk"
    if not left.seconds:
        return f"In all: {disk}; {left.unit} and wall time are not known before steps of each stage have run"
    wall = f"{duration(left.seconds)} of wall time at {limits} without queueing"
    counted = "Training alone" if left.trainings_alone else "In all"
    return f"{counted}: {in_hours(left.hours)} {left.unit}, {wall}, {disk}{_without(left.unknown)}"


def _without(unknown: Iterable[str]) -> str:
    """What a forecast leaves out, as it is known once one has run."""
    names = ", ".join(unknown)
    return f", not counting {names}: known once one of each has run" if names else ""


def in_hours(hours: float) -> str:
    """A number of hours to three digits."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}" if hours >= 0.001 or not hours else f"{hours:.4f}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are two."""
    if seconds >= 7200:
        return f"{in_hours(seconds / 3600)} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
