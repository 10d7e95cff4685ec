"""Slurm itself is away for a while, or knows less than it should."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from msm_hpc.launch import slurm_commands
from tests.campaign.drills.campaign import Campaign
from tests.slurm_tools import without_controller

TRAINING = "aft/base/seed0"


@pytest.mark.slow
@pytest.mark.slurm
def test_the_controller_dies_during_submission_and_again_while_jobs_run(
    campaign: Callable[..., Campaign], undisturbed: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    drill = campaign()
    drill.hold(TRAINING)
    sbatch, calls = slurm_commands.sbatch, 0
    away = without_controller()

    def dying(script: str, *options: str) -> slurm_commands.Answer:
        nonlocal calls
        calls += not options
        if calls == 2:
            away.__enter__()
        return sbatch(script, *options)

    with monkeypatch.context() as patch:
        patch.setattr(slurm_commands, "sbatch", dying)
        patch.setattr(slurm_commands, "PAUSES", ())
        said = drill.run(code=2)
    assert "is the Slurm controller up?; the 1 arrays before it stay submitted" in said
    assert "Run again when Slurm answers: it submits what is left" in said
    away.__exit__(None, None, None)
    drill.run()
    drill.until_held(TRAINING)
    with without_controller():
        drill.release()
        drill.until(lambda: drill.of(TRAINING).done)
    drill.check(undisturbed, {})
