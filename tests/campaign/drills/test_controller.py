"""Slurm itself is away for a while, or knows less than it should."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest

from msm_hpc.launch import slurm_commands
from tests.campaign.drills.campaign import Campaign
from tests.slurm_tools import purge, without_controller

TRAINING = "aft/base/seed0"


@pytest.mark.slow
@pytest.mark.slurm
def test_the_controller_is_away_during_submission_and_again_while_jobs_run(
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


ACCOUNTS = {
    "AccountingStorageType=accounting_storage/slurmdbd": "AccountingStorageType=accounting_storage/none",
    "AccountingStorageEnforce=limits": "#AccountingStorageEnforce=limits",
    "AccountingStorageTRES=gres/gpu": "#AccountingStorageTRES=gres/gpu",
}


@contextlib.contextmanager
def no_accounting() -> Iterator[None]:
    """Slurm keeps no accounts."""
    with without_controller(*ACCOUNTS.items()):
        pass
    try:
        yield
    finally:
        with without_controller(*((without, line) for line, without in ACCOUNTS.items())):
            pass


@pytest.mark.slow
@pytest.mark.slurm
def test_a_site_without_accounting(campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]) -> None:
    drill = campaign()
    drill.hold(TRAINING)
    with no_accounting():
        drill.run()
        drill.until_held(TRAINING)
        for process in drill.processes(TRAINING):  # so that nobody is left to say why
            process.kill()
        drill.release()
        drill.until_over()
        triage = drill.msm("triage")
        assert f"{TRAINING} ({drill.graph.find(TRAINING).id}): lost" in triage, triage
        assert "ended without a record; scontrol: FAILED of job" in triage, triage
        drill.run()
        drill.check(undisturbed, {TRAINING: [None, "done"]}, held=False)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_job_that_the_accounts_have_forgotten(
    campaign: Callable[..., Campaign], undisturbed: Mapping[str, object]
) -> None:
    drill = campaign()
    drill.hold(TRAINING)
    drill.run()
    drill.until_held(TRAINING)
    for process in drill.processes(TRAINING):
        process.kill()
    drill.release()
    drill.until_over()
    purge(drill.job(TRAINING))
    triage = drill.msm("triage")
    assert "ended without a record\n" in triage and "sacct" not in triage, triage
    drill.run()
    drill.check(undisturbed, {TRAINING: [None, "done"]}, held=False)
