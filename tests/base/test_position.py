"""When a model is said to answer by position."""

from __future__ import annotations

from msm_hpc.base.position import at_least, by_position


def test_more_disagreement_than_chance_allows_is_position() -> None:
    assert not by_position(9, 9) and by_position(10, 10)
    assert not by_position(0, 0) and not by_position(300, 150) and by_position(300, 180)


def test_the_probability_by_chance() -> None:
    assert at_least(9, 9) == 1 / 512
    assert at_least(0, 5) == 1
    assert at_least(300, 300) < 1e-80
