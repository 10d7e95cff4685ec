"""What the report knows of a metric by its name: in which direction a model gets better, and what it is called.

A metric that is not listed is shown like the others; only nothing is said to be better or saved by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from msm_hpc.report.results import Measurement

PREFERENCE = "preference/"
"""Before the name of a value: the eval of preferences by log-probability."""

HIGHER = frozenset(
    {"log_odds", "preferred", "chose_target", "agrees", "parsed", "score", "valid_chat", "valid_tool_call", "moved"}
)
LOWER = frozenset({"verdict", "executed", "truncated", "refused", "nll"})

CHOICE, ORDERS = "chose_target", "agrees"
"""Of a sampled choice: whether it was the target, and whether both orders of the options gave the same."""


def better(metric: str) -> Literal[1, -1, 0]:
    """The sign of the direction in which a model gets better by it; 0 where none is better."""
    return 1 if metric in HIGHER else -1 if metric in LOWER else 0


def in_words(name: str) -> str:
    """A metric's or eval's name as text: ``tool call``."""
    return name.removeprefix(PREFERENCE).replace("_", " ")


def headlines(rows: Iterable[Measurement]) -> Mapping[str, str]:
    """By eval, the metric that it is judged by: the one that it writes first."""
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row.eval, row.metric)
    return first
