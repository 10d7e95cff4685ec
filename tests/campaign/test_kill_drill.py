"""SIGKILL to everything of a local run in the middle of AFT; the same command again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from msm_hpc.base.progress import read_progress
from msm_hpc.cli.main import main
from msm_hpc.graph.build import Graph
from msm_hpc.store.store import Store
from tests.campaign.shrunk import SHRUNK
from tests.composed import graph_of, load_config

OVERRIDES = [
    *SHRUNK,
    "campaign.arms=[aft]",
    "stages.aft.epochs=6",
    "stages.aft.save_every=5",
    "stages.pretrain.layout.data_parallel=1",
]
SECONDS = 400


def start(root: Path) -> subprocess.Popen[bytes]:
    """`msm run` as the leader of a process group of its own, which its jobs belong to."""
    command = [sys.executable, "-m", "msm_hpc", "run", *OVERRIDES, f"root={root}"]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


def kill_during_aft(root: Path, graph: Graph, store: Store) -> None:
    run = start(root)
    folder = store.of(graph.find("aft/aft/30/seed0"))
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        progress = read_progress(folder.partial)
        if progress and progress.done >= 7:
            break
        assert run.poll() is None, "the run ended before it could be killed"
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not folder.done


def results(graph: Graph, store: Store) -> Any:
    return json.loads((store.of(graph.report).out / "results.json").read_text())


@pytest.mark.slow
def test_a_run_killed_during_aft_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    graph = graph_of(load_config(OVERRIDES))
    unbroken, broken = Store(tmp_path / "unbroken"), Store(tmp_path / "broken")
    kill_during_aft(broken.root, graph, broken)
    finished = {step.id: done_mark(broken, step.id) for step in graph.steps if broken.of(step).done}
    assert graph.find("pretrain/base").id in finished

    for root in (broken.root, unbroken.root):  # from here, where jobs have what is imported already
        assert main(["run", *OVERRIDES, f"root={root}"]) == 0

    assert results(graph, broken) == results(graph, unbroken)
    assert {key: done_mark(broken, key) for key in finished} == finished
    attempts = broken.of(graph.find("aft/aft/30/seed0")).attempts()
    assert [attempt.cause for attempt in attempts] == [None, "done"]


def done_mark(store: Store, step_id: str) -> tuple[str, int]:
    """What ``done.json`` says, and when it was written."""
    path = store.folder(step_id).path / "done.json"
    return path.read_text(), path.stat().st_mtime_ns
