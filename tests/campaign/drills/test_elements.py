"""Something happens to single jobs of a campaign; `msm run` heals it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping

import pytest

from tests.campaign.drills.campaign import Campaign

KILLED, REQUEUED, MIDTRAINED, CANCELLED = (
    "aft/base/seed0",
    "aft/base/seed1",
    "midtrain/america/msm+aft/seed0",
    "aft/america/msm+aft/30/seed0",
)


@pytest.mark.slow
@pytest.mark.slurm
def test_one_is_killed_one_requeued_and_one_cancelled_while_it_waits(
    campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]
) -> None:
    drill = campaign()
    drill.hold(KILLED, REQUEUED, MIDTRAINED)
    drill.run()
    drill.until_held(KILLED, REQUEUED, MIDTRAINED)
    subprocess.run(["scancel", drill.queued(CANCELLED)], check=True)
    drill.processes(KILLED)[-1].kill()
    subprocess.run(["scontrol", "requeue", drill.job(REQUEUED)], check=True)
    drill.release(KILLED, MIDTRAINED)
    drill.until_held(REQUEUED, tries=2)
    drill.release()
    drill.until_over()

    status, triage = drill.msm("status"), drill.msm("triage")
    assert "2 done, 1 cancelled, 1 lost" in status, status
    assert f"cancelled: {CANCELLED}, " in status, status
    assert f"{KILLED} ({drill.graph.find(KILLED).id}): lost\n  SIGKILL killed its process" in triage, triage
    said = drill.run()
    assert "2 arrays of 7 steps" in said and "Run again after lost: 1 step" in said, said
    drill.check(undisturbed, {KILLED: [None, "done"], REQUEUED: ["preempted", "done"]})
