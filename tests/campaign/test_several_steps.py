"""A job that makes several steps: what fails stops only what reads it, and each step has a log of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from msm_hpc.campaign import runner
from msm_hpc.campaign.runner import run_steps
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import RUN
from msm_hpc.launch.several import SEVERAL
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
from tests.commands import Commands
from tests.serving.fake_vllm import fake_python
from tests.serving.toy import without_weights

FORK = multiprocessing.get_context("fork")
GOOD = Step("generate", "good", GenerateConfig(product="pairs", count=1), {})
OTHER = Step("generate", "other", GenerateConfig(product="pairs", count=2), {})
BAD = Step("export", "bad", ExportConfig(), {})
READS_BAD = Step("generate", "reads bad", GenerateConfig(product="pairs", count=3), {"bad": BAD})


@pytest.fixture(autouse=True)
def toy_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """``generate`` writes its result; ``export`` fails, unless a test says otherwise."""
    monkeypatch.setitem(sys.modules, "msm_hpc.launch.preloaded", ModuleType("nothing, which takes no time"))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    use(monkeypatch, "write", kind="generate")
    use(monkeypatch, "fail")


def use(monkeypatch: pytest.MonkeyPatch, stage: str, kind: str = "export") -> None:
    before = kinds.KINDS[kind]
    monkeypatch.setitem(kinds.KINDS, kind, kinds.Kind(before.version, before.config, dict, f"stages:{stage}"))


def run_job(store: Store, *steps: Step, job: str = "64", start: str = "first") -> int:
    """Run the steps as a job of several does, on one rank; returns its exit status."""
    (status,) = run_ranks(store, 1, *steps, job=job, start=start)
    return status


def run_ranks(store: Store, ranks: int, *steps: Step, job: str = "64", start: str = "first") -> list[int | None]:
    """The same on so many ranks, each of which has an exit status."""
    store.register(steps)
    ids = [step.id for step in steps]
    processes = [FORK.Process(target=_job, args=(store, job, start, ids, rank, ranks)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    return [process.exitcode for process in processes]


def _job(store: Store, job: str, start: str, ids: list[str], rank: int, ranks: int) -> None:
    variables = {"JOB_ID": job, "NTASKS": str(ranks), "JOB_NUM_NODES": "1", "NODEID": "0"}
    variables |= {"PROCID": str(rank), "LOCALID": str(rank)}
    os.environ.update({f"SLURM_{name}": value for name, value in variables.items()})
    os.environ.update({"SLURM_JOB_NODELIST": "n1", "SUBMITIT_EXECUTOR": "slurm", SEVERAL: "1", RUN: start})
    os.environ["SUBMITIT_FOLDER"] = str(store.jobs)
    store.jobs.mkdir(exist_ok=True)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # in the place of pytest's
    run_steps(str(store.root), *ids)


def last(store: Store, step: Step) -> Attempt:
    return store.of(step).attempts()[-1]


def test_what_fails_stops_only_what_reads_it(store: Store) -> None:
    assert run_job(store, BAD, READS_BAD, GOOD) == 0, "what reads the good one may run"
    assert store.done(GOOD)
    assert [last(store, step).cause for step in (BAD, READS_BAD, GOOD)] == ["code", "upstream", "done"]


def test_a_job_that_makes_nothing_failed(store: Store) -> None:
    assert run_job(store, BAD, READS_BAD) == 1


def test_a_step_that_dies_takes_no_other_with_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, "die")
    assert run_job(store, BAD, GOOD) == 0
    assert store.done(GOOD)
    assert (last(store, BAD).cause, last(store, BAD).message) == (None, "SIGKILL killed its process")
    assert last(store, BAD).end


def test_each_step_has_a_log_of_its_own(store: Store) -> None:
    run_job(store, BAD, GOOD)
    logs = [Path(last(store, step).log) for step in (BAD, GOOD)]
    assert [log.name for log in logs] == [f"64.{step.id.replace('/', '-')}_0_log.err" for step in (BAD, GOOD)]
    assert "the stage broke" in logs[0].read_text()
    assert "the stage broke" not in logs[1].read_text()


def test_steps_of_a_job_ask_one_server_which_ends_with_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, "serve")
    monkeypatch.setenv("FAKE_SERVER", f"{fake_python(tmp_path)}:{without_weights(tmp_path / 'base')}")
    steps = [Step("export", name, ExportConfig(dtype=name), {}) for name in ("float32", "bfloat16")]
    assert run_job(store, *steps) == 0
    (server,) = {(store.of(step).out / "process").read_text() for step in steps}
    assert not Path(f"/proc/{server}").exists()


def test_a_requeued_job_does_not_repeat_what_failed_but_another_job_does(store: Store) -> None:
    run_job(store, BAD, GOOD)
    assert run_job(store, BAD, GOOD, OTHER, start="second") == 0
    assert store.done(OTHER)
    assert len(store.of(BAD).attempts()) == 1
    run_job(store, BAD, OTHER, job="65")
    assert len(store.of(BAD).attempts()) == 2


def test_where_a_step_fails_on_one_rank_all_ranks_go_on_to_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "SECONDS_BETWEEN_LOOKS", 0.1)
    monkeypatch.setattr(runner, "SECONDS_TO_NOTICE", 0.5)
    use(monkeypatch, "fail_on_rank_1")
    use(monkeypatch, "together", kind="generate")
    assert run_ranks(store, 2, BAD, READS_BAD, GOOD) == [0, 0]
    assert "rank 1 came" in (store.of(GOOD).out / "result.txt").read_text()
    assert [last(store, step).cause for step in (BAD, READS_BAD, GOOD)] == [None, "upstream", "done"]
    assert last(store, BAD).message == "SIGKILL killed its process"


def test_a_signal_between_two_steps_of_many_ranks_stops_the_next(
    store: Store, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = commands(scontrol="echo 'JobId=64 PreemptTime=None Reason=None'", squeue="", sacct="")
    use(monkeypatch, "signal_the_job")
    use(monkeypatch, "together", kind="generate")
    assert run_ranks(store, 2, BAD, GOOD, OTHER)[0] == 1
    assert store.done(BAD) and not store.done(GOOD)
    assert "SIGUSR2 asked the run to stop before it began" in (last(store, GOOD).message or "")
    assert not store.of(OTHER).attempts(), "the job begins no other step"
    assert "scontrol requeue 64" in calls.read_text()
