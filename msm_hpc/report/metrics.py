"""What the report knows of a metric by its name: in which direction a model gets better, and what it is called.

A metric that is not listed is shown like the others; only nothing is said to be better or saved by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

PREFERENCE = "preference/"
"""Before the name of a value: the eval of preferences by log-probability."""

HIGHER = frozenset(
    {"log_odds", "preferred", "chose_target", "agrees", "parsed", "score", "valid_chat", "valid_tool_call", "moved"}
)
LOWER = frozenset({"verdict", "executed", "truncated", "refused", "nll"})

MOST_METRICS = 6


def better(metric: str) -> Literal[1, -1, 0]:
    """The sign of the direction in which a model gets better by it; 0 where none is better."""
    return 1 if metric in HIGHER else -1 if metric in LOWER else 0


def named(name: str) -> str:
    """The name of a metric, eval, group or reason as text: ``tool call``."""
    return name.removeprefix(PREFERENCE).replace("log_odds", "log-odds").replace("_", " ").replace(" qa", " QA")


def sentence(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]


def headlines(metrics: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """By eval, the metric that it is judged by: the first one that it writes, of evals and their metrics.

    One with more than :data:`MOST_METRICS`, such as patterns of reasoning, is judged by none of them.
    """
    by_eval: dict[str, dict[str, None]] = {}
    for name, metric in metrics:
        by_eval.setdefault(name, {})[metric] = None
    return {name: next(iter(found)) for name, found in by_eval.items() if len(found) <= MOST_METRICS}
