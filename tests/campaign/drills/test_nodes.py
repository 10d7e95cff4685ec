"""A node is lost; another job is more urgent."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping

import psutil
import pytest

from msm_hpc.store.bad_nodes import bad_nodes
from tests.campaign.drills.campaign import Campaign
from tests.slurm_tools import lost, processes

TRAINING = "aft/base/seed0"


@pytest.mark.slow
@pytest.mark.slurm
def test_a_node_goes_down(campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]) -> None:
    drill = campaign()
    drill.hold(TRAINING)
    drill.run()
    drill.until_held(TRAINING)
    drill.until(lambda: len(drill.queue()) == 2)  # its job, and the report's
    node = drill.tries(TRAINING)[0].host
    with lost(node):
        for process in processes(SLURMD_NODENAME=node, SLURM_PROCID="0"):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended with the one before
                process.kill()
        drill.until_held(TRAINING, tries=2)
        drill.release()
        drill.until_over()
    assert [each.name for each in bad_nodes(drill.root)] == [node]
    drill.check(undisturbed, {TRAINING: ["node", "done"]})


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_of_a_higher_qos_takes_the_place(
    campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]
) -> None:
    subprocess.run(["sacctmgr", "--immediate", "add", "qos", "urgent", "preempt=normal"], check=True)
    subprocess.run(["sacctmgr", "--immediate", "modify", "qos", "normal", "set", "gracetime=20"], check=True)
    drill = campaign("cluster.resources.cpu.qos=normal", "cluster.resources.of_stage.aft.sbatch={nodelist: n2}")
    drill.hold(TRAINING)
    drill.run()
    drill.until_held(TRAINING)
    drill.until(lambda: len(drill.queue()) == 2)
    urgent = ["sbatch", "--qos=urgent", "--nodelist=n2", "--exclusive", "--output=/dev/null"]
    subprocess.run([*urgent, "--wrap=sleep 1"], check=True)
    drill.until_held(TRAINING, tries=2)
    drill.release()
    drill.check(undisturbed, {TRAINING: ["preempted", "done"]})
