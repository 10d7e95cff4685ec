"""A run that repeats tries writes down how they ended, where that is known only now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from msm_hpc.campaign.settling import settled
from msm_hpc.campaign.views.ends import last_ends
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.config.stages import ExportConfig
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef
from msm_hpc.store.records import Attempt, stamp
from msm_hpc.store.store import Store
from tests.commands import Commands

STEP = Step("export", "x", ExportConfig(), {})
BEGAN, ENDED = "2026-01-01T10:00:00", "2026-01-01T10:05:00"
START = stamp(datetime.fromisoformat(BEGAN).timestamp() + 30)
ATTEMPT = Attempt(JobRef("slurm", "64"), "n1", 2, None, "", START)
SACCT = f"echo '64|FAILED|1:0|n[1-2]|{BEGAN}|{ENDED}'"


def settle(store: Store, attempt: Attempt) -> Attempt:
    store.of(STEP).write_attempt(1, attempt)
    store.of(STEP).write_lease(attempt.job)
    jobs = holders([STEP], store)
    settled(last_ends([STEP], store, jobs), jobs)
    return store.of(STEP).attempts()[0]


def test_the_end_of_one_that_was_killed_is_that_of_its_job(store: Store, commands: Commands) -> None:
    earlier = "64|REQUEUED|0:0|n1|2026-01-01T09:00:00|2026-01-01T09:59:00"
    commands(squeue="", sacct=f"echo '{earlier}'; {SACCT}", scontrol="")
    found = settle(store, ATTEMPT)
    assert found.end == stamp(datetime.fromisoformat(ENDED).timestamp())
    assert (found.cause, found.message) == (
        None,
        "ended without a record; sacct: FAILED of job 64, exit status 1, signal 0",
    )


def test_a_lost_rank_whose_node_is_down_by_now_was_lost_with_it(store: Store, commands: Commands) -> None:
    down = "echo 'NodeName=n2 Arch=x86_64 State=DOWN* Reason=Not responding [root@2026-01-01]'"
    commands(squeue="", sacct=SACCT, scontrol=down)
    said = replace(ATTEMPT, end=START, cause="rank lost", message="rank 1 (host n2.site, process 7) has given no sign")
    found = settle(store, said)
    assert (found.end, found.cause) == (START, "node")
    assert found.evidence == "scontrol: node n2 is DOWN* (Not responding)"
