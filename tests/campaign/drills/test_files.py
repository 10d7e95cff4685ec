"""Disks: a full one, and files that a kill left half-written."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping

import pytest

from tests.campaign.drills import stages
from tests.campaign.drills.campaign import Campaign

MIDTRAINED = "midtrain/america/msm+aft/seed0"


def make(campaign: Campaign, name: str) -> None:
    stages.run_steps(str(campaign.root), campaign.graph.find(name).id)


@pytest.mark.slow
@pytest.mark.slurm
def test_what_a_kill_left_half_written(campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]) -> None:
    drill = campaign()
    drill.hold(MIDTRAINED)
    drill.store.register((drill.graph.find(MIDTRAINED),))
    process = multiprocessing.get_context("fork").Process(target=make, args=(drill, MIDTRAINED))
    process.start()
    drill.until_held(MIDTRAINED)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    drill.release()
    folder = drill.of(MIDTRAINED)
    left = folder.attempt(1)
    for file in (
        left.out / "resume" / "step-00000004" / "weights",
        left.out / "metrics.jsonl",
        left.path / "attempt.json",
    ):
        os.truncate(file, file.stat().st_size // 2)
    folder.out.mkdir()
    (folder.out / "summary.json").write_text('{"steps"')
    for file in (left.done_file, folder.path / "done.json", folder.lease_file):
        file.write_text('{"files": {"check')
    drill.run()
    drill.check(undisturbed, {MIDTRAINED: [None, "done"]})
