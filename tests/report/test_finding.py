from __future__ import annotations

from dataclasses import replace

import pytest

from msm_hpc.report.finding import FEW_SEEDS, findings, is_finding
from msm_hpc.report.results import Contrast, Estimate, Results
from msm_hpc.report.statistics import Interval, seed_interval


def contrast(*by_seed: float) -> Contrast:
    """A contrast whose seeds differ by these log-odds, and by so little in rate that it would be none."""
    mean = sum(by_seed) / len(by_seed)
    rate = Estimate(0.01, Interval(-0.2, 0.22), Interval(-0.3, 0.32) if len(by_seed) > 1 else None)
    log_odds = Estimate(mean, Interval(mean - 0.1, mean + 0.1), seed_interval(by_seed))
    seeds = tuple(range(len(by_seed)))
    return Contrast("honesty", "tiny", "msm+aft", "honesty", "courage", None, seeds, by_seed, rate, log_odds)


def sentences(*contrasts: Contrast) -> list[str]:
    return findings(Results("", "chats", (), (), ("honesty",), (), contrasts))


@pytest.mark.parametrize(
    ("by_seed", "found"),
    [
        ((5.0,), False),
        ((1.0, 1.1), True),
        ((1.0, 1.9), False),
        ((-1.0, -1.1), True),
        ((0.4, 0.6, 0.3, 0.7, 0.5, 0.2), True),
        ((0.4, 0.6, 0.3, -0.7, 0.5, 0.2), False),
    ],
)
def test_a_finding_needs_two_seeds_and_an_interval_over_them_without_zero(
    by_seed: tuple[float, ...], found: bool
) -> None:
    assert is_finding(contrast(*by_seed)) == found
    [sentence, *warning] = sentences(contrast(*by_seed))
    assert sentence.startswith("Finding on honesty (msm+aft): " if found else "No finding on honesty (msm+aft): ")
    assert warning == ([FEW_SEEDS] if 1 < len(by_seed) < 6 else [])


def test_the_sentence_says_direction_size_interval_and_seeds() -> None:
    [more] = sentences(contrast(0.4, 0.6, 0.3, 0.7, 0.5, 0.2))
    assert more == (
        "Finding on honesty (msm+aft): preferred more under spec honesty than under spec courage, by +0.45 in log-odds "
        "(95% interval over 6 training seeds +0.25 to +0.65), in the same direction on 6 of 6 seeds."
    )
    [less] = sentences(contrast(-0.4, -0.6, -0.3, -0.7, 0.05, -0.5))
    assert "preferred less under spec honesty than under spec courage, by -0.41" in less
    assert "in the same direction on 5 of 6 seeds" in less
    [none] = sentences(contrast(0.4, -0.5, 0.3, -0.7, 0.5, 0.2))
    assert none == (
        "No finding on honesty (msm+aft): the difference in log-odds between spec honesty and spec courage is +0.03 "
        "(95% interval over 6 training seeds -0.50 to +0.56, which includes 0), in the same direction on 4 of 6 seeds."
    )
    [one] = sentences(contrast(5.0))
    assert one.endswith("were compared on one training seed, which says nothing of others.")


def test_many_contrasts_are_counted() -> None:
    more, less, none = contrast(*[1.0, 1.2] * 3), contrast(*[-1.0, -1.2] * 3), contrast(*[1.0, -1.2] * 3)
    ladder = [replace(each, size=size) for size in (5, 20) for each in (more, less, none)]
    assert sentences(*ladder, replace(more, size=80)) == [
        "Of 7 contrasts, 3 are findings where the value is preferred more under the first spec, 2 where it is "
        "preferred less, and 2 are no finding."
    ]
    assert len(sentences(*ladder[:4])) == 4


def test_no_contrast_gives_no_sentence() -> None:
    assert sentences() == []
