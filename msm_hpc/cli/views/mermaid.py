"""A campaign's graph as Mermaid text, which GitHub, GitLab and many editors draw.

The steps of a stage that are for the same arms are one node, so that ten thousand steps are a few dozen. What reads a
result directly and by way of another node has the second arrow alone::

    n3["midtrain x 12<br>msm, msm+aft"]
    n1 --> n3
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set

from msm_hpc.base.text import few
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.store.store import Store

MOST = 4
"""Arms of a node that are named."""
Node = tuple[str, frozenset[str], int]
"""A stage, the arms that its steps are for, and after how many steps of the same stage they come."""


def mermaid(graph: Graph, store: Store) -> Iterator[str]:
    """The lines of a flowchart, in the order of work; green is what is done."""
    node_of = _nodes(graph)
    members: dict[Node, list[Step]] = defaultdict(list)
    children: dict[Node, set[Node]] = defaultdict(set)
    for step in graph.steps:
        members[node_of[step.identity]].append(step)
        for parent in step.parents:
            children[node_of[parent.identity]].add(node_of[step.identity])
    ids = {node: f"n{number}" for number, node in enumerate(members)}
    yield "flowchart LR"
    for node, steps in members.items():
        done = sum(map(store.done, steps))
        yield f'    {ids[node]}["{_label(node, len(steps), done, graph)}"]{":::done" if done == len(steps) else ""}'
    for node in members:
        yield from (f"    {ids[node]} --> {ids[child]}" for child in sorted(_next(node, children), key=ids.__getitem__))
    yield "    classDef done fill:#cfc"


def _nodes(graph: Graph) -> Mapping[str, Node]:
    """The node of each step, by its identity."""
    arms: dict[str, set[str]] = defaultdict(set)
    for cell, step in (*graph.cells, *graph.evals):
        arms[step.identity].add(cell.arm)
    for step in reversed(graph.steps):
        for parent in step.parents if step is not graph.report else ():
            arms[parent.identity] |= arms[step.identity]
    before: dict[str, dict[str, int]] = {}
    for step in graph.steps:
        own: dict[str, int] = {}
        for parent in step.parents:
            for stage, count in before[parent.identity].items():
                own[stage] = max(own.get(stage, 0), count + (stage == parent.stage))
            own.setdefault(parent.stage, 1)
        before[step.identity] = own
    return {
        step.identity: (step.stage, frozenset(arms[step.identity]), before[step.identity].get(step.stage, 0))
        for step in graph.steps
    }


def _next(node: Node, children: Mapping[Node, Set[Node]]) -> set[Node]:
    """The nodes that read ``node``, but for those that come after another of them."""
    direct = children.get(node, set()) - {node}
    return {child for child in direct if not any(child in _behind(other, children) for other in direct - {child})}


def _behind(node: Node, children: Mapping[Node, Set[Node]]) -> set[Node]:
    found: set[Node] = set()
    left = [node]
    while left:
        more = children.get(left.pop(), set()) - found
        found |= more
        left += more
    return found


def _label(node: Node, count: int, done: int, graph: Graph) -> str:
    """``aft x 36, 12 done<br>msm, msm+aft``."""
    stage, arms, _ = node
    counted = f" x {count:,}" if count > 1 else ""
    how_far = f", {done:,} done" if 0 < done < count else ""
    everyone = len(arms) > 1 and arms == {cell.arm for cell, _ in graph.cells}
    whose = "all arms" if everyone else few(sorted(arms), MOST)
    return f"{stage}{counted}{how_far}" + (f"<br>{whose}" if arms else "")
