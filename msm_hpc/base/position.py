"""Whether a model answers by position: it names the same place, whatever stands there.

In both orders of a pair such a model names the same place, and so another option. By chance this is so of half of the
pairs; where it is so of more than chance allows, its choices say nothing of the options.
"""

from __future__ import annotations

from functools import cache
from math import comb

P_OF_POSITION = 0.001
BY_POSITION = "by_position"
"""Why there is no rate."""


def by_position(pairs: int, disagree: int) -> bool:
    """Whether both orders disagree in more of the pairs than chance allows (one-sided binomial test)."""
    return at_least(disagree, pairs) < P_OF_POSITION


@cache
def at_least(successes: int, tries: int) -> float:
    """The probability of at least so many successes by chance alone, of one half each."""
    ways = sum(comb(tries, k) for k in range(successes, tries + 1))
    return ways / int(2**tries)
