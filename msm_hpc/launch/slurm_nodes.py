"""The nodes of a Slurm cluster: which are down, and which a job can do without."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache

from msm_hpc.launch.slurm_commands import ask, call, has

MOST_EXCLUDED = 3
"""Nodes that jobs leave out at once, so that a fault of the code, which takes down whichever node it is on, does not
exclude the cluster node by node."""
_DOWN = re.compile(r"\bDOWN|FAIL|NOT_RESPONDING|\*")


def down(names: Collection[str]) -> Mapping[str, str]:
    """Those of the nodes that Slurm takes to be down or does not hear of, each with the words that say so."""
    if not names or not has("scontrol"):
        return {}
    shown = ask("scontrol", "--oneliner", "show", "node", ",".join(sorted(names))).stdout
    found = re.findall(r"^NodeName=(\S+).*?\bState=(\S+)(?:.*\bReason=(.*?)(?: \[|$))?", shown, re.MULTILINE)
    return {
        name: f"scontrol: node {name} is {state}" + (f" ({reason})" if reason else "")
        for name, state, reason in found
        if _DOWN.search(state)
    }


def some_are_away(partition: str | None) -> bool:
    """Whether nodes of a partition, or of any, take no jobs now: they are down or drained, as for maintenance."""
    those = [f"--partition={partition}"] if partition else []
    return bool(ask("sinfo", "--noheader", "--states=down,drain,fail,maint", "--format=%N", *those).stdout.strip())


def of_list(nodes: str) -> tuple[str, ...]:
    """The names in a list such as ``n[1-2,7]``."""
    if "[" not in nodes:
        return tuple(filter(None, nodes.split(",")))
    return tuple(call("scontrol", "show", "hostnames", nodes).stdout.split())


def excluded(avoid: Sequence[str], partition: str | None, needed: int) -> tuple[str, ...]:
    """Those of the nodes to ``avoid``, the worst first, that a job of ``needed`` nodes is told to leave out.

    They are nodes of the partition, since sbatch refuses names that it does not know; :data:`MOST_EXCLUDED` at most,
    no more than half of them, and so few that the job can still run.
    """
    nodes = nodes_of(partition) if avoid else frozenset()
    most = max(min(MOST_EXCLUDED, len(nodes) // 2, len(nodes) - needed), 0)
    return tuple(name for name in avoid if name in nodes)[:most]


def more_excluded(own: str, avoid: Sequence[str], partition: str | None, needed: int) -> str:
    """The list ``own`` of a job of ``needed`` nodes, and those of ``avoid`` that it is told to leave out, too.

    It is empty where nothing is to be changed: no node is to be added, or too few would be left to run on.
    """
    more = excluded(avoid, partition, needed)
    if not more or len(nodes_of(partition).difference(of_list(own), more)) < needed:
        return ""
    return ",".join(filter(None, (own, *more)))


@cache
def nodes_of(partition: str | None) -> frozenset[str]:
    """The nodes of a partition, by default of the cluster's default one; none where that cannot be asked."""
    if not has("sinfo"):
        return frozenset()
    rows = (line.split() for line in ask("sinfo", "--noheader", "--Node", "--format=%P %N").stdout.splitlines())
    return frozenset(node for name, node in rows if partition in (name.rstrip("*"), None if "*" in name else name))
