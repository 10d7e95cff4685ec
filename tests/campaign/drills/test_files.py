"""Disks: a full one, and files that a kill left half-written."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.campaign.drills import stages
from tests.campaign.drills.campaign import Campaign, copied

LAST, EXPORTED, MIDTRAINED = "aft/base/seed0", "export/base/seed0", "midtrain/america/msm+aft/seed0"


@pytest.mark.slow
@pytest.mark.slurm
def test_the_disk_is_full(prepared: Path, undisturbed: Mapping[str, object]) -> None:
    small = Path(os.environ["SLURM_CONF"]).parents[1] / "small"
    if not small.is_mount():
        pytest.skip("the cluster has no small disk: no right to mount one")
    drill = copied(prepared, small / "runs")
    drill.hold(LAST)
    drill.run()
    drill.until_held(LAST)
    drill.until(lambda: len(drill.queue()) == 2)  # its job, and the report's
    drill.hold(LAST, word=stages.FILLS_THE_DISK)
    drill.until_over()
    triage = drill.msm("triage")
    assert f"{LAST} ({drill.graph.find(LAST).id}): lost" in triage and "No space left on device" in triage, triage
    for ballast in drill.root.rglob("ballast"):
        ballast.unlink()
    drill.release()
    drill.run()
    drill.until_over()
    exported = {name: causes for name, causes in drill.causes().items() if name == EXPORTED}
    drill.check(undisturbed, {LAST: [None, "done"], **exported})  # it may not have had room to say "upstream"


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
