from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from msm_hpc.base.files import write_json
from msm_hpc.campaign import local_run
from msm_hpc.campaign.local_run import RunState, run_local
from msm_hpc.campaign.views.ends import ended
from msm_hpc.campaign.views.jobs import holders
from msm_hpc.config.cluster import Cluster
from msm_hpc.config.stages import ExportConfig, GenerateConfig
from msm_hpc.graph.build import Graph
from msm_hpc.graph.steps import Step
from msm_hpc.launch.job import JobRef, local_job
from msm_hpc.store.records import now
from msm_hpc.store.store import Store


def generate(label: str, product: str = "pairs", value: str | None = "america", count: int = 10) -> Step:
    config = GenerateConfig(product=product, value=value, count=count)
    return Step("generate", label, config, {})


def reader(label: str, *parents: Step) -> Step:
    return Step("export", label, ExportConfig(), {f"input{i}": parent for i, parent in enumerate(parents)})


def run(store: Store, *steps: Step, slots: int = 2) -> tuple[RunState, list[int]]:
    """The state at the end, and how many steps ran at each look."""
    busy: list[int] = []
    state = run_local(
        Graph(steps), store, Cluster(launcher="local", slots=slots), lambda state: busy.append(len(state.running))
    )
    return state, busy


def test_what_is_imported_for_steps_that_ask_is_there() -> None:
    """The fork server passes over a module that there is not."""
    assert find_spec(local_run.PRELOADED_EVALS)


@pytest.mark.slow
def test_steps_run_once_and_never_more_than_slots(store: Store) -> None:
    steps = [generate(str(count), count=count) for count in (10, 20, 30, 40)]
    state, busy = run(store, *steps)
    assert state.done == {step.identity for step in steps}
    assert max(busy) == 2
    again, busy = run(store, *steps)
    assert again.done == state.done
    assert busy == []
    assert all(len(store.of(step).attempts()) == 1 for step in steps)


@pytest.mark.slow
def test_a_failure_blocks_only_what_needs_it(store: Store) -> None:
    bad = generate("bad", value="nonsense")
    good = generate("good")
    child, grandchild = reader("child", bad), reader("grandchild", reader("child", bad))
    state, _ = run(store, bad, good, child, grandchild)
    assert state.failed == {bad.identity}
    assert state.blocked == {child.identity, grandchild.identity}
    assert state.done == {good.identity}
    (attempt,) = store.of(bad).attempts()
    assert attempt.cause == "user"
    assert "nonsense" in str(attempt.message)
    assert Path(attempt.log).exists()


@pytest.mark.slow
def test_a_signal_to_the_run_alone_stops_its_jobs(store: Store) -> None:
    """As `kill PID` and a service manager send it; Ctrl-C reaches the jobs by itself."""
    endless, seen = generate("endless", "pretraining", value=None, count=10**9), list[JobRef]()

    def show(state: RunState) -> None:
        if store.of(endless).attempts():
            seen.extend(state.running.values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(Graph((endless,)), store, Cluster(launcher="local", slots=1), show)
    gone, left = psutil.wait_procs([psutil.Process(int(job.id)) for job in seen], timeout=30)
    assert gone and not left
    assert store.of(endless).attempts()[-1].end


def stop_fork_server() -> None:
    """What jobs are forked from would have the code of before."""
    for child in psutil.Process().children():
        if "multiprocessing.forkserver" in " ".join(child.cmdline()):
            child.kill()


@pytest.mark.slow
def test_a_job_that_dies_before_our_code_runs_is_found_by_its_lease(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the code was edited meanwhile; the next run makes the step."""
    step = generate("one")
    broken = tmp_path / "broken" / "msm_hpc" / "__init__.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("def\n")
    stop_fork_server()
    with monkeypatch.context() as edited:
        edited.chdir(tmp_path / "broken")  # Python looks here first, or there
        edited.setenv("PYTHONPATH", str(tmp_path / "broken"), prepend=os.pathsep)
        state, _ = run(store, step)
    assert state.failed == {step.identity} and state.made == set()
    assert store.of(step).attempts() == []
    end = ended(step, store, holders([step], store))
    assert end is not None and end.cause == "lost" and end.log is not None
    assert "SyntaxError" in end.log.read_text()
    state, _ = run(store, step)
    assert state.made == {step.identity}


@pytest.mark.slow
def test_a_step_of_another_run_is_waited_for(store: Store) -> None:
    step = generate("held")
    store.register((step,))
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    store.of(step).write_lease(local_job(holder.pid))

    def let_go(state: RunState) -> None:
        assert not state.running
        if state.finished:
            return
        assert step.identity in state.foreign
        (store.of(step).path / "out").mkdir(exist_ok=True)
        write_json(store.of(step).path / "done.json", {"files": {}, "attempt": 1, "at": now()})
        holder.kill()
        holder.wait()

    state = run_local(Graph((step,)), store, Cluster(launcher="local"), let_go)
    assert state.done == {step.identity} and state.made == set()
    assert store.of(step).attempts() == []


@pytest.mark.slow
@pytest.mark.parametrize("alive", [False, True])
def test_a_process_of_another_host_keeps_its_step_as_long_as_it_shows_that_it_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    monkeypatch.setattr(local_run, "SECONDS_UNTIL_VOID", 0.5)
    monkeypatch.setattr(local_run, "SECONDS_BETWEEN_LEASE_CHECKS", 0.1)
    step = generate("held")
    elsewhere = replace(local_job(), host="elsewhere")
    store.of(step).write_lease(elsewhere)
    began = time.monotonic()

    def look(state: RunState) -> None:
        if alive and time.monotonic() - began < 1.5:
            assert step.identity in state.foreign
            store.of(step).touch_lease(elsewhere)

    state = run_local(Graph((step,)), store, Cluster(launcher="local"), look)
    assert state.done == {step.identity}
    assert [attempt.cause for attempt in store.of(step).attempts()] == ["done"]
