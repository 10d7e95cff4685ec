"""Whether a contrast between specs is a finding: one rule, fixed before any result, and the sentence that it gives."""

from __future__ import annotations

from collections.abc import Sequence

from msm_hpc.report.results import Contrast, Results

SEEDS_NEEDED = 2
SEEDS_ADVISED = 6

RULE = (
    f"The rule, fixed before any result: a finding needs at least {SEEDS_NEEDED} training seeds, and a 95% interval "
    "over seeds (Student's t, differences paired by seed) of the difference in mean log-odds that excludes 0. Each "
    "contrast is judged by itself."
)
FEW_SEEDS = (
    f"Fewer than {SEEDS_ADVISED} training seeds are too few to rely on: rounding on another processor alone can change "
    "as much as another seed does."
)
MOST_SENTENCES = 4
"""With more contrasts (a ladder of sizes), they are counted; the table has each."""


def is_finding(contrast: Contrast) -> bool:
    """Whether the rule makes it one."""
    interval = contrast.log_odds.seeds
    return len(contrast.seeds) >= SEEDS_NEEDED and interval is not None and interval.excludes_zero


def findings(results: Results) -> list[str]:
    """A sentence for each contrast, or a count of many; and a warning where there are too few seeds to rely on them."""
    contrasts = results.contrasts
    if len(contrasts) > MOST_SENTENCES:
        sentences = [_counted(contrasts)]
    else:
        sentences = [_sentence(contrast, results) for contrast in contrasts]
    few = any(SEEDS_NEEDED <= len(contrast.seeds) < SEEDS_ADVISED for contrast in contrasts)
    return [*sentences, FEW_SEEDS] if few else sentences


def _counted(contrasts: Sequence[Contrast]) -> str:
    found = [contrast.log_odds.mean > 0 for contrast in contrasts if is_finding(contrast)]
    more, less = found.count(True), found.count(False)
    return (
        f"Of {len(contrasts)} contrasts, {more} are findings where the value is preferred more under the first spec, "
        f"{less} where it is preferred less, and {len(contrasts) - len(found)} are no finding."
    )


def _sentence(contrast: Contrast, results: Results) -> str:
    size = "" if contrast.size is None else f", {contrast.size:,} {results.counted}"
    model = f"{contrast.model}, " if results.several_models else ""
    where = f"on {contrast.value} ({model}{contrast.arm}{size})"
    specs = f"spec {contrast.spec} and spec {contrast.other_spec}"
    interval, n = contrast.log_odds.seeds, len(contrast.seeds)
    if interval is None:
        return f"No finding {where}: {specs} were compared on one training seed, which says nothing of others."
    over_seeds = f"95% interval over {n} training seeds {_signed(interval.low)} to {_signed(interval.high)}"
    same = f"in the same direction on {contrast.agreeing} of {n} seeds"
    if not is_finding(contrast):
        return (
            f"No finding {where}: the difference in log-odds between {specs} is {_signed(contrast.log_odds.mean)} "
            f"({over_seeds}, which includes 0), {same}."
        )
    more = "more" if contrast.log_odds.mean > 0 else "less"
    return (
        f"Finding {where}: preferred {more} under spec {contrast.spec} than under spec {contrast.other_spec}, "
        f"by {_signed(contrast.log_odds.mean)} in log-odds ({over_seeds}), {same}."
    )


def _signed(number: float) -> str:
    """Two decimals; more where they would not show on which side of 0 it is."""
    return f"{number:+.2f}" if abs(number) >= 0.005 else f"{number:+.1g}"
