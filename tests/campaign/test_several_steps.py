"""A job that makes several steps: what fails stops only what reads it, and each step has a log of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from msm_hpc.campaign.runner import run_steps
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph import kinds
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import RUN
from msm_hpc.launch.several import SEVERAL
from msm_hpc.store.records import Attempt
from msm_hpc.store.store import Store
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
    monkeypatch.setitem(kinds.KINDS, "generate", kinds.Kind(1, GenerateConfig, dict, "stages:write"))
    use(monkeypatch, "fail")


def use(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    version = kinds.KINDS["export"].version
    monkeypatch.setitem(kinds.KINDS, "export", kinds.Kind(version, ExportConfig, dict, f"stages:{stage}"))


def run_job(store: Store, *steps: Step, job: str = "64", start: str = "first") -> int:
    """Run the steps as a job of several does, on one rank; returns its exit status."""
    store.register(steps)
    process = FORK.Process(target=_job, args=(store, job, start, [step.id for step in steps]))
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def _job(store: Store, job: str, start: str, ids: list[str]) -> None:
    variables = {"JOB_ID": job, "NTASKS": "1", "JOB_NUM_NODES": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0"}
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
