"""A training that its time limit ends twice."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.campaign.drills.campaign import Campaign

TRAINING = "aft/base/seed0"


@pytest.mark.slow
@pytest.mark.slurm
def test_the_time_limit_comes_twice(limited: Campaign, undisturbed: Mapping[str, object]) -> None:
    limited.until_held(TRAINING, tries=3)
    limited.release()
    limited.until_over()
    print(limited.tried())
    limited.check(undisturbed, {TRAINING: ["timeout", "timeout", "done"]})
