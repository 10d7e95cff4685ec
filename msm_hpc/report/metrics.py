"""What the report knows of a metric by its name: in which direction a model gets better, and what it is called.

A metric that is not listed is shown like the others; only nothing is said to be better or saved by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

PREFERENCE = "preference/"
"""Before the name of a value: the eval of preferences by log-probability."""

Metric = tuple[str, str]
"""Eval and metric."""

HIGHER = frozenset(
    {
        *("log_odds", "preferred", "chose_target", "chose_or_likelier", "agrees", "parsed", "decided"),
        *("score", "moved"),
        *("valid_chat", "valid_tool_call", "follows_form"),
        *("acc", "acc_norm", "exact_match", "f1"),
    }
)
LOWER = frozenset({"verdict", "executed", "truncated", "refused", "nll"})

MOVED, SHUFFLED = "moved", "moved_shuffled"
"""How far training moved a model toward a spec, and the same with shuffled labels, an item a shuffle: a control."""


def better(metric: str) -> Literal[1, -1, 0]:
    """The sign of the direction in which a model gets better by it; 0 where none is better."""
    return 1 if metric in HIGHER else -1 if metric in LOWER else 0


def named(name: str) -> str:
    """The name of a metric, eval, group or reason as text: ``tool call``."""
    return name.removeprefix(PREFERENCE).replace("log_odds", "log-odds").replace("_", " ").replace(" qa", " QA")


def sentence(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]


def headlines(metrics: Iterable[Metric]) -> Mapping[str, str]:
    """By eval, the metric that it is judged by, of evals and their metrics: the first that it writes, or ``moved``.

    One whose metrics are of families, such as ``misaligned/self_preservation``, is judged by none of them.
    """
    by_eval: dict[str, dict[str, None]] = {}
    for name, metric in metrics:
        by_eval.setdefault(name, {})[metric] = None
    return {
        name: MOVED if MOVED in found else next(iter(found))
        for name, found in by_eval.items()
        if not any(map(of_family, found))
    }


def family(name: str) -> str:
    """The name of a group or metric up to the first slash: ``murder`` of ``murder/global``."""
    return name.partition("/")[0]


def member(name: str) -> str:
    """What follows on the family, or all of a name without one."""
    return name.partition("/")[2] or name


def of_family(metric: str) -> bool:
    """Whether a metric is one of many of its family: a pattern of reasoning."""
    return "/" in metric
