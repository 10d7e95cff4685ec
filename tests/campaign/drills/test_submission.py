"""The launcher itself is killed, or is not alone, or may submit little at once."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from msm_hpc.launch import slurm_commands
from msm_hpc.store.journal import Journal
from tests.campaign.drills.campaign import PREPARED, Campaign, copied, made_here
from tests.slurm_tools import configured

FORK = multiprocessing.get_context("fork")


def run_and_die(drill: Campaign) -> None:
    sbatch, calls = slurm_commands.sbatch, 0

    def dying(script: str, *options: str) -> slurm_commands.Answer:
        nonlocal calls
        answer = sbatch(script, *options)
        calls += not options
        if calls == 2:
            signal.raise_signal(signal.SIGKILL)
        return answer

    slurm_commands.sbatch = dying  # in a process of its own
    drill.run()


@pytest.mark.slow
@pytest.mark.slurm
def test_it_is_killed_between_two_arrays_and_two_others_come_at_once(
    campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]
) -> None:
    drill = campaign()
    drill.hold(*(step.name for step in drill.graph.steps if step.stage in ("midtrain", "aft")))
    first = FORK.Process(target=run_and_die, args=(drill,))
    first.start()
    first.join()
    assert first.exitcode == -signal.SIGKILL
    assert [each.job is None for each in Journal(drill.root).read()] == [False, True]
    both = [FORK.Process(target=drill.run) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert len(Journal(drill.root).read()) == 4 and len(drill.queue()) == 6, "each array once"
    drill.release()
    drill.check(undisturbed, {})


@pytest.mark.slow
@pytest.mark.slurm
def test_arrays_of_more_elements_than_slurm_takes(campaign: Callable[..., Campaign], tmp_path: Path) -> None:
    larger = ("campaign.arms=[base]", "campaign.seeds=[0,1,2,3,4,5,6,7,8]")
    undisturbed = campaign(*larger)
    made_here(undisturbed, [step for step in undisturbed.graph.steps if step.stage in PREPARED])
    drill = copied(undisturbed.root, tmp_path / "drill", *larger)
    with configured("MaxArraySize=8"):
        said = drill.run()
    assert "aft-2" in said, said
    made_here(undisturbed, undisturbed.graph.steps)
    drill.check(undisturbed.results(), {})
