"""The rules by which numbers are marked, and the sentences that say so beside them; see also :mod:`.finding`."""

from __future__ import annotations

from msm_hpc.report.results import Comparison

NEVER_ASKED = "never_asked"
FLOOR = 0.05
SATURATED = f"Saturated: both rates are within {FLOOR} of the same end of the scale, where a difference cannot show."


def p_in_words(p: float) -> str:
    """Two digits that count, such as ``.013``."""
    return "<.001" if p < 0.001 else f"{p:.{2 if p >= 0.1 else 3}f}".removeprefix("0")


def compared_note(compared: tuple[Comparison, ...]) -> str:
    """How to read the comparisons."""
    tests = sum(each.p is not None for each in compared)
    return (
        "The first minus the second, on the items that both have a value for, with the 95% interval over training "
        "seeds (paired by seed), or of a single seed over groups of items. p is of Student's test over the same, "
        f"adjusted by Holm's method for the {tests} tests shown: without any effect, at most 5 of 100 reports have one "
        "below .05."
    )
